"""What LLVM makes of the SIMD layer for each instruction set, read from its assembly; no such CPU is needed."""

import re

import pytest
from instruction_levels import beyond, instructions
from kernel_builds import TRIPLES, all_builds, build, run_build

from edgellama.compiler import loader, shipped
from edgellama.compiler.cache import unseal
from edgellama.compiler.object_symbols import undefined_symbols
from edgellama.simd.target import TARGETS

X86 = [name for name, target in TARGETS.items() if target.architecture == "x86-64"]
ARM = [name for name, target in TARGETS.items() if target.architecture == "aarch64"]


def function_text(isa: str, name: str) -> str:
    """The instructions of one exported kernel."""
    _, assembly = all_builds()[isa]
    return re.search(rf"^{name}:.*?^\.Lfunc_end", assembly, re.MULTILINE | re.DOTALL).group()


def mnemonics(text: str) -> list[str]:
    return re.findall(r"^\t(?:\{\w+\}\s+)?([a-z][\w.]*)", text, re.MULTILINE)


DOT4 = {
    # isa: (lines that must be there, how often), (text that must not be there)
    "avx512vnni": ([(r"vpdpbusd\t.*%zmm", 1)], ["vpmaddubsw", "{vex}"]),
    "avx512": ([(r"vpmaddubsw\t.*%zmm", 2), (r"vpmaddwd\t.*%zmm", 2)], ["vpdpbusd"]),
    "avxvnni": ([(r"\{vex\}\s+vpdpbusd\t.*%ymm", 2)], ["vpmaddubsw", "%zmm"]),
    "avx2": ([(r"vpmaddubsw\t.*%ymm", 4), (r"vpmaddwd\t.*%ymm", 4)], ["vpdpbusd", "%zmm"]),
    "i8mm": ([(r"\tusdot\tv.*\.16b", 4)], ["\tsdot", "smull", "eor"]),
    "dotprod": ([(r"\tsdot\tv.*\.16b", 4), (r"eor\tv", 4)], ["usdot", "smull"]),
    "neon": ([(r"smull\tv.*\.8b", 4), (r"smull2\tv.*\.16b", 4), (r"eor\tv", 4)], ["dot\t", "ext\t"]),
    "generic": ([], ["vpdpbusd", "maddubsw", "%ymm", "%zmm"]),
}


@pytest.mark.parametrize("isa", TARGETS)
def test_dot4_is_the_instruction_of_its_target(isa):
    text = function_text(isa, "dot4_bytes")
    wanted, unwanted = DOT4[isa]
    for pattern, count in wanted:
        assert len(re.findall(pattern, text)) == count, text
    assert not [word for word in unwanted if word in text]


def test_avx_vnni_is_also_made_in_the_encoding_of_avx512():
    """So that the same kernels run on hosts that have it in that encoding only (test_simd.py)."""
    _, assembly = build("avxvnni", "cascadelake")
    assert re.search(r"^\tvpdpbusd\t.*%ymm", assembly, re.MULTILINE) and "{vex}" not in assembly


@pytest.mark.parametrize(("isa", "count"), [("avx512", 1), ("avx2", 2)])
def test_dot4_small_needs_half_the_instructions_of_dot4(isa, count):
    assert mnemonics(function_text(isa, "dot4_small")).count("vpmaddubsw") == count


@pytest.mark.parametrize("isa", [*X86, "generic"])
def test_no_register_is_wider_than_the_target_allows(isa):
    _, assembly = all_builds()[isa]
    assert ("%zmm" in assembly) == isa.startswith("avx512")
    assert ("%ymm" in assembly) == (isa != "generic")
    assert ("vpdpbusd" in assembly) == isa.endswith("vnni")


@pytest.mark.parametrize("isa", TARGETS)
def test_no_instruction_is_beyond_the_features_that_a_host_must_have(isa):
    found = instructions(build(isa)[0].data, isa)
    assert len(found) > 100
    assert beyond(found, isa) == []


@pytest.mark.parametrize(
    ("isa", "lower"), [("avx512vnni", "avx512"), ("avxvnni", "avx2"), ("i8mm", "dotprod"), ("dotprod", "neon")]
)
def test_instructions_beyond_a_level_are_noticed(isa, lower):
    assert beyond(instructions(build(isa)[0].data, isa), lower)


DOTS = {  # isa: what adds to a tile of small codes, and registers of sums per 16 rows of one token
    "avx512vnni": ("vpdpbusd", 1),
    "avx512": ("vpmaddwd", 1),
    "avxvnni": ("vpdpbusd", 2),
    "avx2": ("vpmaddwd", 2),
    "i8mm": ("usdot", 4),
    "dotprod": ("sdot", 4),
    "neon": ("smlal2?", 8),
}


@pytest.mark.parametrize("isa", DOTS)
def test_the_tile_stays_in_registers(isa):
    """No stack traffic in the inner loop, and one dot per accumulator and step (LLVM may unroll it)."""
    loop = inner_loop(function_text(isa, "tile_product"))
    assert not re.search(r"%rsp|%rbp|\[sp|\[x29", loop), loop
    target, (dot, registers) = TARGETS[isa], DOTS[isa]
    count = len([word for word in mnemonics(loop) if re.fullmatch(dot, word)])
    assert count % (target.tile_tokens * target.tile_halves * registers) == 0 < count, loop
    assert not any(word.startswith("call") or word == "bl" for word in mnemonics(loop))


def inner_loop(text: str) -> str:
    """From the label that the last backward jump goes to, up to that jump."""
    for label in re.findall(r"^(\.LBB\d+_\d+):", text, re.MULTILINE):
        start = text.index(f"{label}:")
        jump = re.search(rf"\t(?:j[a-z]+|b\.\w+|cbn?z)\t(?:\w+, )?{re.escape(label)}\b", text[start:])
        if jump:
            return text[start : start + jump.end()]
    raise AssertionError(f"no loop in {text}")


@pytest.mark.parametrize("isa", X86)
def test_conversions_and_masks_are_single_instructions(isa):
    halves = mnemonics(function_text(isa, "halves_to_floats"))
    assert halves.count("vcvtph2ps") == (1 if isa.startswith("avx512") else 2)
    assert "call" not in " ".join(mnemonics(function_text(isa, "exponential")))
    copy = function_text(isa, "copy_first")
    assert re.search(r"\{%k\d\}" if isa.startswith("avx512") else "vmaskmovps|vpmaskmov", copy), copy


@pytest.mark.parametrize("isa", ARM)
def test_conversions_on_arm_are_single_instructions(isa):
    to_floats, to_halves = (mnemonics(function_text(isa, name)) for name in ("halves_to_floats", "floats_to_halves"))
    assert to_floats.count("fcvtl") == to_floats.count("fcvtl2") == 2
    assert to_halves.count("fcvtn") == to_halves.count("fcvtn2") == 2
    exponential = mnemonics(function_text(isa, "exponential"))
    assert exponential.count("fmla") >= 32 and "bl" not in exponential
    assert mnemonics(function_text(isa, "fma")).count("fmla") == 4
    high = mnemonics(function_text(isa, "nibbles"))
    assert high.count("ushr") == high.count("and") == 4
    assert "isb" in mnemonics(function_text(isa, "locked_count_up"))


@pytest.mark.parametrize("isa", TARGETS)
def test_objects_need_only_what_the_loader_offers(isa):
    item, _ = all_builds()[isa]
    assert undefined_symbols(item.data) <= {*loader.C_FUNCTIONS, "_GLOBAL_OFFSET_TABLE_"}
    if isa != "generic":  # every other target has its own fma and rounding
        assert not undefined_symbols(item.data) & {"fmaf", "rintf"}


def test_what_an_object_may_need_is_what_the_loader_offers():
    from edgellama.compiler.codegen import ALLOWED_SYMBOLS

    assert set(loader.C_FUNCTIONS) | {"_GLOBAL_OFFSET_TABLE_"} == ALLOWED_SYMBOLS


def test_objects_for_some_systems_may_also_need_what_the_loader_offers_there():
    from edgellama.compiler.codegen import SYSTEM_SYMBOLS

    assert {*loader.SYSTEM_FUNCTIONS["win32"], loader.WINDOWS_MARK} == SYSTEM_SYMBOLS["windows"]
    assert {*loader.SYSTEM_FUNCTIONS["darwin"]} == SYSTEM_SYMBOLS["macos"]


def test_undefined_symbols_of_another_kind_of_object_are_unknown():
    assert undefined_symbols(b"\0asm\1\0\0\0" + bytes(60)) is None


@pytest.mark.slow  # a minute for both
@pytest.mark.parametrize(("abi", "magic"), [("macho-arm64", "cffaedfe"), ("win-arm64", "64aa")])
def test_objects_for_other_systems_on_arm(abi, magic):
    """They are not run anywhere, but their symbols are known and are those that the loader offers."""
    from edgellama.compiler.codegen import allowed_symbols

    done = run_build("--modules", "windows_kernels", "--isa", "dotprod", "--triple", shipped.ABIS[abi])
    data = unseal(done.stdout, "").data
    assert data.startswith(bytes.fromhex(magic))
    needed = undefined_symbols(data)
    assert needed and needed <= allowed_symbols(shipped.ABIS[abi]) and needed & {"sin", "sincos", "__sincos_stret"}


def test_building_twice_gives_the_same_bytes():
    first, _ = all_builds()["avx2"]
    again = run_build("--modules", "simd_kernels", "--isa", "avx2", "--triple", TRIPLES["x86-64"], "--key", "avx2")
    assert again.stdout.endswith(first.data)


def test_a_kernel_that_needs_the_python_runtime_is_refused(tmp_path, monkeypatch):
    module = tmp_path / "greedy_kernels.py"
    module.write_text(
        "import numpy as np\nfrom edgellama.compiler.entry import entry\n\n\n"
        "@entry()\ndef greedy(op, frame, worker):\n    np.zeros(op)[frame] = 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    done = run_build("--modules", "greedy_kernels", "--isa", "generic")
    assert done.returncode == 1 and done.stdout == b""
    assert b"NRT" in done.stderr.splitlines()[-1]


def test_an_instruction_set_of_another_architecture_is_refused():
    done = run_build("--group", "walk", "--isa", "neon", "--triple", TRIPLES["x86-64"])
    assert done.returncode == 1
    assert done.stderr == b"error: neon is an instruction set of aarch64, not of x86_64-unknown-linux-gnu\n"


def test_unknown_groups_and_empty_modules_are_one_sentence():
    assert run_build("--group", "nosuch", "--isa", "generic").stderr.startswith(b"error: nosuch is no kernel group")
    assert b"no kernel entries" in run_build("--modules", "json", "--isa", "generic").stderr
