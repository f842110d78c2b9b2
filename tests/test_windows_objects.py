"""Objects for Windows, read as assembly and as files. No Windows is at hand: nothing of this was run there."""

import re
import struct
from functools import cache

import pytest
from kernel_builds import run_build
from windows_kernels import FRAME_BYTES

from edgellama.compiler import shipped
from edgellama.compiler.cache import unseal
from edgellama.compiler.codegen import allowed_symbols
from edgellama.compiler.object_symbols import undefined_symbols


@cache
def built(folder, abi: str) -> tuple[bytes, str]:
    """The object of windows_kernels.py, and its assembly."""
    text = folder / f"{abi}.s"
    options = ("--isa", "avx2", "--triple", shipped.ABIS[abi], "--key", "key", "--assembly", str(text))
    done = run_build("--modules", "windows_kernels", *options)
    assert done.returncode == 0, done.stderr.decode()
    return unseal(done.stdout, "key").data, text.read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("windows")


def function_text(assembly: str, name: str) -> str:
    """The instructions of one function, up to its return."""
    return re.search(rf"^{name}:.*?\tretq", assembly, re.MULTILINE | re.DOTALL).group()


def test_arguments_come_in_the_registers_of_the_convention(folder):
    windows = function_text(built(folder, "win64")[1], "five")
    for register in ("rcx", "rdx", "r8", "r9"):
        assert f"(%{register})" in windows, windows
    assert re.search(r"movq\t40\(%rsp\), %r\w+", windows), "the fifth lies above the return address and 32 bytes"
    linux = function_text(built(folder, "elf-x86_64")[1], "five")
    for register in ("rdi", "rsi", "rdx", "rcx", "r8"):
        assert f"(%{register})" in linux, linux
    assert "(%rsp)" not in linux


def saved(text: str) -> dict[str, int]:
    """Vector registers that a function puts on its stack before it changes them: name and offset."""
    pattern = re.compile(r"^\tv?mova\w+\t%(xmm\d+), (\d+)\(%rsp\)", re.MULTILINE)
    return {name: int(offset) for name, offset in pattern.findall(text)}


def test_vector_registers_of_the_caller_are_kept(folder):
    text = function_text(built(folder, "win64")[1], "with_calls")
    used = {name for name in re.findall(r"%(?:x|y)(mm\d+)", text) if 6 <= int(name[2:]) <= 15}
    kept = saved(text)
    assert used and {f"x{name}" for name in used} == set(kept), text
    for name, offset in kept.items():
        assert re.search(rf"\tv?mova\w+\t{offset}\(%rsp\), %{name}\b", text), f"{name} is not restored"


def test_integer_registers_of_the_caller_are_kept(folder):
    text = function_text(built(folder, "win64")[1], "with_calls")
    for register in ("rsi", "rdi", "rbx", "r12", "r13", "r14", "r15"):
        used = re.search(rf"%{register}\b", text)
        assert not used or (f"pushq\t%{register}" in text and f"popq\t%{register}" in text), register


def test_calls_leave_the_callee_its_32_bytes(folder):
    text = function_text(built(folder, "win64")[1], "with_calls")
    assert "callq\tsin" in text
    assert min(saved(text).values()) >= 32


def test_a_large_frame_is_probed(folder):
    windows = function_text(built(folder, "win64")[1], "large_frame")
    (size,) = re.findall(r"movl\t\$(\d+), %eax.*\n\tcallq\t__chkstk\n\tsubq\t%rax, %rsp", windows)
    assert int(size) >= FRAME_BYTES
    assert "__chkstk" not in built(folder, "elf-x86_64")[1]


def test_the_object_is_coff_and_needs_only_what_the_loader_offers(folder):
    data, _ = built(folder, "win64")
    (machine,) = struct.unpack_from("<H", data)
    assert machine == 0x8664  # IMAGE_FILE_MACHINE_AMD64
    assert undefined_symbols(data) == {"sin", "cos", "memset", "_fltused", "__chkstk"}
    assert undefined_symbols(data) <= allowed_symbols(shipped.ABIS["win64"])


def test_a_long_name_is_read_from_the_string_table():
    symbols = [(b"\0\0\0\0" + struct.pack("<I", 4), 0, 0, 2), (b"short\0\0\0", 0, 0, 2), (b"defined\0", 16, 1, 2)]
    table = b"".join(
        struct.pack("<8sIhHBB", name, value, section, 0, kind, 0) for name, value, section, kind in symbols
    )
    header = struct.pack("<HHIIIHH", 0x8664, 0, 0, 20, len(symbols), 0, 0)
    strings = b"a_name_of_many_characters\0"
    data = header + table + struct.pack("<I", 4 + len(strings)) + strings
    assert undefined_symbols(data) == {"a_name_of_many_characters", "short"}
