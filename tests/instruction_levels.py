"""Which instructions an object has that its instruction set does not: GNU binutils judge, not LLVM, which made it."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from edgellama.simd.target import TARGETS

_NAMES = {"avxvnni": "avx_vnni", "avx512vnni": "avx512_vnni"}
_NO_FEATURE_NEEDED = re.compile(r"j|call|nop|data16|cs |xchg +%ax|\(bad\)")  # or with operands that are no assembly


def instructions(data: bytes) -> set[str]:
    """The distinct instructions of an ELF or COFF object as objdump prints them."""
    if not shutil.which("as") or not shutil.which("objdump"):
        pytest.skip("GNU binutils judge the instructions of this test")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.o"
        path.write_bytes(data)
        command = ["objdump", "-d", "--no-show-raw-insn", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^\s+[0-9a-f]+:\t(.*)", text, re.MULTILINE)
    return {re.sub(r"\s*[#<].*", "", line) for line in lines if not _NO_FEATURE_NEEDED.match(line)}


def beyond(found: set[str], isa: str) -> list[str]:
    """Those that an assembler refuses for x86-64 with the features that the target requires."""
    features = [_NAMES.get(name, name) for name in sorted(TARGETS[isa].required)]
    features += ["popcnt"] if features else []  # every CPU with AVX2 has it
    lines = sorted(found)
    command = ["as", f"-march={'+'.join(['generic64', *features])}", "-o", "/dev/null", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True)
    numbers = re.findall(r":(\d+): Error", done.stderr)
    return [lines[int(number) - 1] for number in numbers]
