"""What a kernel is compiled for: an instruction set by name, and the shapes that follow from its registers."""

from dataclasses import dataclass

OUTER_ROWS = 4  # rows of queries that attention takes together; memory for them is padded to this


@dataclass(frozen=True)
class Target:
    """One instruction set. `tile_tokens` x `tile_halves` 16-row halves is the register tile of a prefill."""

    name: str
    architecture: str  # "x86-64", "aarch64", or "any"
    llvm_cpu: str
    llvm_features: str
    dot: str  # how integer products are summed: a name in dot.py
    tile_tokens: int
    tile_halves: int
    outer_wide_rows: int  # rows of a wide attention tile (a plain one has OUTER_ROWS), and vectors of 16 values
    outer_vectors: int
    required: frozenset[str]  # LLVM feature names that the host must report


# What LLVM may use for x86-64-v3 and v4 (psABI), less what every CPU with AVX2 has: a virtual machine may hide some.
_V3 = frozenset({"avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# Arm cores are named for the order in which instructions suit them; what they have beyond Armv8.0 must not be used.
_V8_0 = "-lse,-rdm,-crc,-rcpc,-fullfp16,-aes,-sha2,-ras,-ssbs"

# Best first. 32 zmm hold 12 integer and 12 float accumulators of a 32-row x 6-token tile, two weights, one
# activation and temporaries; 16 ymm hold a 16-row x 2-token tile with its pair sums.
TARGETS = {
    target.name: target
    for target in (
        Target("avx512vnni", "x86-64", "x86-64-v4", "+avx512vnni", "vnni512", 6, 2, 8, 4, _V4 | {"avx512vnni"}),
        Target("avx512", "x86-64", "x86-64-v4", "", "maddubs512", 6, 2, 8, 4, _V4),
        Target("avxvnni", "x86-64", "x86-64-v3", "+avxvnni", "vnni256", 3, 1, 4, 1, _V3 | {"avxvnni"}),
        Target("avx2", "x86-64", "x86-64-v3", "", "maddubs256", 2, 1, 4, 1, _V3),
        Target("i8mm", "aarch64", "neoverse-n1", f"{_V8_0},+i8mm", "usdot", 4, 1, 4, 1, frozenset({"dotprod", "i8mm"})),
        Target("dotprod", "aarch64", "neoverse-n1", _V8_0, "sdot", 4, 1, 4, 1, frozenset({"dotprod"})),
        Target("neon", "aarch64", "cortex-a72", _V8_0, "smull", 2, 1, 4, 1, frozenset()),
        Target("generic", "any", "", "", "generic", 2, 1, 4, 1, frozenset()),
    )
}

_ARCHITECTURES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "aarch64", "arm64": "aarch64"}


def architecture_of(triple: str) -> str:
    """The architecture that an LLVM target triple names, as targets name it; "any" for one that has none of its own."""
    return _ARCHITECTURES.get(triple.split("-")[0].lower(), "any")


_current: Target | None = None


def select(name: str) -> Target:
    """Make `name` the target of every kernel typed from now on; a process compiles for one target only."""
    global _current
    if _current is not None and _current.name != name:
        raise RuntimeError(f"this process already compiles for {_current.name}, not {name}")
    _current = TARGETS[name]
    return _current


def current() -> Target:
    """The target of this process; the compiler selects it before it imports a kernel module."""
    if _current is None:
        raise RuntimeError("no target selected: kernels are compiled by edgellama.compiler only")
    return _current
