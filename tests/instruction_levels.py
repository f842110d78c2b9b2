"""Which instructions an object has that its instruction set does not: GNU binutils judge, not LLVM, which made it."""

import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from edgellama.simd.target import TARGETS

_NAMES = {"avxvnni": "avx_vnni", "avx512vnni": "avx512_vnni"}
_NO_FEATURE_NEEDED = {  # or with operands that are no assembly
    "x86-64": re.compile(r"j|call|nop|data16|cs |xchg +%ax|\(bad\)"),
    "aarch64": re.compile(r"b\b|b\.|bl\b|cbn?z|tbn?z|adrp?\b|udf|\.word"),
}


def _tool(name: str, isa: str) -> str:
    """GNU binutils for an instruction set; the test is skipped where they are not installed."""
    native = "aarch64" if platform.machine() in ("aarch64", "arm64") else "x86-64"
    architecture = TARGETS[isa].architecture
    prefix = "aarch64-linux-gnu-" if architecture == "aarch64" and native != "aarch64" else ""
    if not shutil.which(prefix + name):
        pytest.skip(f"{prefix}{name} of GNU binutils judges the instructions of this test")
    return prefix + name


def instructions(data: bytes, isa: str) -> set[str]:
    """The distinct instructions of an ELF or COFF object as objdump prints them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.o"
        path.write_bytes(data)
        command = [_tool("objdump", isa), "-d", "--no-show-raw-insn", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^\s+[0-9a-f]+:\t(.*)", text, re.MULTILINE)
    left_out = _NO_FEATURE_NEEDED["aarch64" if TARGETS[isa].architecture == "aarch64" else "x86-64"]
    comment = r"\s*(//|<).*" if TARGETS[isa].architecture == "aarch64" else r"\s*[#<].*"
    return {re.sub(comment, "", line) for line in lines if not left_out.match(line)}


def _march(isa: str) -> str:
    """The assembler's name for exactly what a target requires of its CPU."""
    required = sorted(TARGETS[isa].required)
    if TARGETS[isa].architecture == "aarch64":
        # The assembler knows dot products from Armv8.2 on only: what else that has is taken away again.
        return "+".join(["armv8.2-a", *required, "nolse", "nordma", "nocrc"] if required else ["armv8-a", "nocrc"])
    features = [_NAMES.get(name, name) for name in required]
    return "+".join(["generic64", *features, *(["popcnt"] if features else [])])  # popcnt: every CPU with AVX2 has it


def beyond(found: set[str], isa: str) -> list[str]:
    """Those that an assembler refuses for the architecture's base with the features that the target requires."""
    lines = sorted(found)
    command = [_tool("as", isa), f"-march={_march(isa)}", "-o", "/dev/null", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True)
    numbers = re.findall(r":(\d+): Error", done.stderr)
    assert numbers or done.returncode == 0, done.stderr
    return [lines[int(number) - 1] for number in numbers]
