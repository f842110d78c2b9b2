"""What a kernel is compiled for: an instruction set by name, and the shapes that follow from its registers."""

from dataclasses import dataclass

OUTER_ROWS = 4  # rows of queries that attention takes together; memory for them is padded to this


@dataclass(frozen=True)
class Target:
    """One instruction set. `tile_tokens` x `tile_halves` 16-row halves is the register tile of a prefill."""

    name: str
    llvm_cpu: str
    llvm_features: str
    dot: str  # which dot4 emitter: "vnni512", "vnni256", "maddubs512", "maddubs256" or "generic"
    tile_tokens: int
    tile_halves: int
    outer_wide_rows: int  # rows of a wide attention tile (a plain one has OUTER_ROWS), and vectors of 16 values
    outer_vectors: int
    required: frozenset[str]  # LLVM feature names that the host must report


# What LLVM may use for x86-64-v3 and v4 (psABI), less what every CPU with AVX2 has: a virtual machine may hide some.
_V3 = frozenset({"avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# Best first. 32 zmm hold 12 integer and 12 float accumulators of a 32-row x 6-token tile, two weights, one
# activation and temporaries; 16 ymm hold a 16-row x 2-token tile with its pair sums.
TARGETS = {
    target.name: target
    for target in (
        Target("avx512vnni", "x86-64-v4", "+avx512vnni", "vnni512", 6, 2, 8, 4, _V4 | {"avx512vnni"}),
        Target("avx512", "x86-64-v4", "", "maddubs512", 6, 2, 8, 4, _V4),
        Target("avxvnni", "x86-64-v3", "+avxvnni", "vnni256", 3, 1, 4, 1, _V3 | {"avxvnni"}),
        Target("avx2", "x86-64-v3", "", "maddubs256", 2, 1, 4, 1, _V3),
        Target("generic", "", "", "generic", 2, 1, 4, 1, frozenset()),
    )
}

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
