"""Which instruction sets a host gets, from what its operating system says; no such host is needed."""

import ctypes
import sys
from types import SimpleNamespace

import llvmlite.binding as llvm
import pytest

from edgellama import system
from edgellama.errors import EdgellamaError
from edgellama.simd import detect, detect_arm
from edgellama.simd.target import TARGETS, architecture_of

# AT_HWCAP and AT_HWCAP2 as the kernel gives them for a CPU's "Features" line in /proc/cpuinfo.
CORTEX_A72 = (0x8FF, 0)  # fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CORTEX_A72_OF_A_PI = (0x887, 0)  # fp asimd evtstrm crc32 cpuid
CORTEX_A76 = (0x119FFF, 0)  # … atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
NEOVERSE_V1 = (0x1FFFFFFF, 0x2000 | 0x4000)  # … i8mm bf16


@pytest.fixture
def host(monkeypatch):
    """Make this process look like one of another triple; detection is remembered, so it is forgotten around it."""
    cached = (detect.host_architecture, detect.host_features)

    def become(triple: str) -> None:
        for function in cached:
            function.cache_clear()
        monkeypatch.setattr(llvm, "get_process_triple", lambda: triple)

    yield become
    monkeypatch.undo()
    for function in cached:
        function.cache_clear()


def hwcap_library(first: int, second: int) -> SimpleNamespace:
    """A C library whose getauxval knows the two words."""

    class Function:
        def __call__(self, kind: int) -> int:
            return {16: first, 26: second}[kind]

    return SimpleNamespace(getauxval=Function())


def on_linux(monkeypatch, library) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (CORTEX_A72, ["neon", "generic"]),
        (CORTEX_A72_OF_A_PI, ["neon", "generic"]),
        (CORTEX_A76, ["dotprod", "neon", "generic"]),
        (NEOVERSE_V1, ["i8mm", "dotprod", "neon", "generic"]),
        ((0, 0), ["neon", "generic"]),
        ((0, 1 << 13), ["neon", "generic"]),  # no CPU has i8mm without dot products
    ],
)
@pytest.mark.parametrize("name", ["cortex-a76", "generic", "a-core-of-2031"])
def test_linux_on_arm(monkeypatch, host, words, expected, name):
    """By the auxiliary vector alone: the CPU's name in /proc/cpuinfo may be unknown, hidden, or another machine's."""
    host("aarch64-unknown-linux-gnu")
    on_linux(monkeypatch, hwcap_library(*words))
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: name)
    monkeypatch.setattr(
        llvm, "get_host_cpu_features", lambda: pytest.fail("LLVM knows features by the CPU's name only")
    )
    monkeypatch.delenv("EDGELLAMA_ISA", raising=False)
    assert detect.executable_isas() == expected
    assert detect.chosen_isa() == expected[0]
    assert detect.prefetch_ahead_bytes() == 0


def test_a_c_library_without_the_question(monkeypatch, host):
    host("aarch64-unknown-linux-android")
    on_linux(monkeypatch, SimpleNamespace())
    assert detect.executable_isas() == ["neon", "generic"]

    def no_library(name):
        raise OSError("there is no handle of the whole process")

    host("aarch64-unknown-linux-musl")
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert detect.executable_isas() == ["neon", "generic"]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"hw.optional.arm.FEAT_DotProd": 1, "hw.optional.arm.FEAT_I8MM": 1}, ["i8mm", "dotprod", "neon", "generic"]),
        ({"hw.optional.arm.FEAT_DotProd": 1, "hw.optional.arm.FEAT_I8MM": 0}, ["dotprod", "neon", "generic"]),
        ({}, ["neon", "generic"]),
    ],
)
def test_macos_on_arm(monkeypatch, host, known, expected):
    host("arm64-apple-darwin23.4.0")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(system, "sysctl_integer", known.get)
    assert detect.executable_isas() == expected


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({43, 66}, ["i8mm", "dotprod", "neon", "generic"]),
        ({43}, ["dotprod", "neon", "generic"]),
        ({66}, ["neon", "generic"]),
    ],
)
def test_windows_on_arm(monkeypatch, host, present, expected):
    host("aarch64-pc-windows-msvc")
    kernel32 = SimpleNamespace(IsProcessorFeaturePresent=lambda number: int(number in present))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda name: kernel32, raising=False)
    assert detect.executable_isas() == expected


@pytest.mark.parametrize(
    ("triple", "architecture"),
    [
        ("aarch64-unknown-linux-gnu", "aarch64"),
        ("arm64-apple-macosx11.0.0", "aarch64"),
        ("x86_64-pc-windows-msvc", "x86-64"),
        ("armv7l-unknown-linux-gnueabihf", "any"),  # a 32-bit Python on a 64-bit kernel
        ("riscv64-unknown-linux-gnu", "any"),
    ],
)
def test_the_architecture_is_that_of_the_process(host, triple, architecture):
    assert architecture_of(triple) == architecture
    host(triple)
    assert detect.host_architecture() == architecture
    if architecture == "any":
        assert detect.executable_isas() == ["generic"]


def test_no_instruction_set_of_another_architecture(monkeypatch, host):
    """Not even if all of its features seem to be there."""
    everything = frozenset().union(*(target.required for target in TARGETS.values()))
    monkeypatch.setattr(detect, "host_features", lambda: everything)
    monkeypatch.setattr(detect, "host_architecture", lambda: "x86-64")
    assert detect.executable_isas() == ["avx512vnni", "avx512", "avxvnni", "avx2", "generic"]
    monkeypatch.setattr(detect, "host_architecture", lambda: "aarch64")
    assert detect.executable_isas() == ["i8mm", "dotprod", "neon", "generic"]


def test_forcing_dot_products_on_a_cpu_without_them_is_refused(monkeypatch, host):
    host("aarch64-unknown-linux-gnu")
    on_linux(monkeypatch, hwcap_library(*CORTEX_A72))
    monkeypatch.setenv("EDGELLAMA_ISA", "dotprod")
    with pytest.raises(EdgellamaError) as caught:
        detect.chosen_isa()
    assert str(caught.value) == "EDGELLAMA_ISA=dotprod cannot run on this CPU; choose one of neon, generic"


def test_forcing_another_architecture_is_one_sentence(run_python, monkeypatch):
    other = "neon" if detect.host_architecture() != "aarch64" else "avx2"
    monkeypatch.setenv("EDGELLAMA_ISA", other)
    done = run_python("-m", "edgellama", "chat", "-q", "-p", "Hello")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"error: EDGELLAMA_ISA={other} cannot run on this CPU; choose one of {', '.join(detect.executable_isas())}\n"
    )


def test_features_have_the_names_that_targets_require():
    known = detect_arm.of_hwcap(*NEOVERSE_V1)
    required = [target.required for target in TARGETS.values() if target.architecture == "aarch64"]
    assert frozenset().union(*required) == known
