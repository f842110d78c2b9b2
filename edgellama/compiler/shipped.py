"""Kernel objects that came with the package: where one fits, the first start compiles nothing.

The release command makes them (release.py). One fits when it was made of the same kernel sources, for this host's
calling convention and object format, and for the instruction set in use, whose features the host has; which Numba or
LLVM made it, and which the host has, does not matter. Whoever can write them can write the Python files beside them,
so unlike the cache's they need no owner check; a damaged one is refused as there.
"""

import hashlib
import platform
import sys
from pathlib import Path

from ..simd.target import TARGETS, architecture_of
from . import cache, sources
from .groups import Group

FOLDER = sources.PACKAGE / "compiler" / "objects"

# What a process calls with and loads: name, LLVM's triple of it.
ABIS = {
    "elf-x86_64": "x86_64-unknown-linux-gnu",
    "win64": "x86_64-pc-windows-msvc",
    "elf-aarch64": "aarch64-unknown-linux-gnu",
    "macho-arm64": "arm64-apple-macosx11.0.0",
    "win-arm64": "aarch64-pc-windows-msvc",
}
_HOST_ABIS = {
    ("linux", "x86_64"): "elf-x86_64",
    ("win32", "amd64"): "win64",
    ("linux", "aarch64"): "elf-aarch64",
    ("darwin", "arm64"): "macho-arm64",
    ("win32", "arm64"): "win-arm64",
}


def isas_of(abi: str) -> list[str]:
    """The instruction sets that are shipped for an ABI: "generic" only where a CPU may have none of the others."""
    architecture = architecture_of(ABIS[abi])
    wanted = (architecture, "any") if architecture == "x86-64" else (architecture,)
    return [name for name, target in TARGETS.items() if target.architecture in wanted]


def host_abi() -> str | None:
    """The name in ABIS of what this process can load; None where no objects are shipped for it."""
    if sys.maxsize < 1 << 32:  # a 32-bit Python on a 64-bit system
        return None
    return _HOST_ABIS.get((sys.platform, platform.machine().lower()))


def key_of(group: Group, isa: str, abi: str) -> str:
    """Changes with the kernels' sources, the instruction set and the ABI, and with nothing else."""
    return hashlib.sha256(abi.encode() + cache.made_from(group, isa)).hexdigest()[:40]


def path_of(folder: Path, group: Group, isa: str, abi: str) -> Path:
    """Where a release keeps the group's object."""
    return folder / abi / f"{group.name}-{isa}.kernels"


def load(group: Group, isa: str) -> cache.KernelObject | None:
    """The shipped object of a group, or None if there is none that fits."""
    abi = host_abi()
    if abi is None:
        return None
    try:
        sealed = path_of(FOLDER, group, isa, abi).read_bytes()
    except OSError:
        return None
    return cache.unseal(sealed, key_of(group, isa, abi))
