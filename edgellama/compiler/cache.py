"""Compiled kernels on disk: one sealed object per (group, instruction set, everything it was made from).

An object is code, and LLVM kills the process on a damaged one. So a file is read once into memory and used only if
its length, its SHA-256 and its key match, and only from a folder that nobody else can write to. Any failure here
means compiling again, never a failing start.
"""

import contextlib
import hashlib
import json
import os
import stat
import struct
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from .. import system
from . import sources
from .groups import Group

MAGIC = b"edgekrn1"
_SIZES = struct.Struct("<QQ")  # bytes of the JSON header, bytes of the object
_START = len(MAGIC) + hashlib.sha256().digest_size
KEPT_SECONDS = 30 * 86400
KEPT_FILES = 200
_TOUCH_SECONDS = 86400  # how exact the time of last use is


@dataclass(frozen=True)
class KernelObject:
    """An object file in memory, the names that it exports, and the key of what it was made from."""

    key: str
    exports: list[str]
    data: bytes


def seal(item: KernelObject) -> bytes:
    """magic, SHA-256 of the rest, two lengths, JSON, object."""
    header = json.dumps({"key": item.key, "exports": item.exports}).encode()
    rest = _SIZES.pack(len(header), len(item.data)) + header + item.data
    return MAGIC + hashlib.sha256(rest).digest() + rest


def unseal(sealed: bytes, key: str) -> KernelObject | None:
    """The object in `sealed`, or None unless every byte of it is what seal() wrote for this key."""
    if len(sealed) < _START + _SIZES.size or not sealed.startswith(MAGIC):
        return None
    rest = memoryview(sealed)[_START:]
    header_size, size = _SIZES.unpack_from(rest)
    if len(rest) != _SIZES.size + header_size + size:
        return None
    if hashlib.sha256(rest).digest() != sealed[len(MAGIC) : _START]:
        return None
    body = _SIZES.size + header_size
    header = json.loads(bytes(rest[_SIZES.size : body]))
    return KernelObject(key, header["exports"], bytes(rest[body:])) if header["key"] == key else None


@cache
def _platform_digest() -> bytes:
    """What all groups depend on besides sources: the compilers and this platform."""
    import llvmlite
    import llvmlite.binding as llvm

    versions = (sys.version_info[:2], llvmlite.__version__, llvm.llvm_version_info, llvm.get_process_triple())
    return hashlib.sha256(_numba_version() + repr(versions).encode()).digest()


def _numba_version() -> bytes:
    """The file in which Numba keeps its version: importing Numba to ask would take half a second."""
    specification = find_spec("numba")
    if specification is None or not specification.origin:
        return b"none"
    try:
        return Path(specification.origin).with_name("_version.py").read_bytes()
    except OSError:
        from importlib.metadata import version

        return version("numba").encode()


def key_of(group: Group, isa: str) -> str:
    """The name under which a group's object for `isa` is kept; changes with whatever could change the object."""
    return hashlib.sha256(_platform_digest() + made_from(group, isa)).hexdigest()[:40]


def made_from(group: Group, isa: str) -> bytes:
    """A group's sources and its instruction set, whatever compiles them."""
    facts = repr((group.package, group.name, group.modules, isa)).encode()
    return sources.digest(sources.group_sources(group.modules)) + facts


def kernels_folder() -> Path | None:
    """The cache's folder, made if need be; None where there is no folder that only this user can write to."""
    try:
        base = system.cache_folder()
        if base is None:
            return None
        folder = base / "kernels"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder if _is_private(folder) else None
    except OSError:
        return None


def _is_private(folder: Path) -> bool:
    """A real folder of this user that nobody else may write to."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and _is_ours(status)


def _is_ours(status: os.stat_result) -> bool:
    if os.name == "nt":  # no owner to compare; the user's profile is private
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _path_of(folder: Path, group: Group, isa: str, key: str) -> Path:
    return folder / f"{group.name}-{isa}-{key}.kernels"


def load(group: Group, isa: str, key: str) -> KernelObject | None:
    """The group's object from the cache, or None if there is none that can be trusted."""
    folder = kernels_folder()
    if folder is None:
        return None
    path = _path_of(folder, group, isa, key)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
                return None
            sealed = file.read()
    except OSError:
        return None
    if time.time() - status.st_mtime > _TOUCH_SECONDS:
        with contextlib.suppress(OSError):
            os.utime(path)
    return unseal(sealed, key)


def store(group: Group, isa: str, sealed: bytes, key: str) -> bool:
    """Keep a sealed object; False where that is impossible, which costs the next start a compilation."""
    folder = kernels_folder()
    if folder is None:
        return False
    try:
        system.write_atomically(_path_of(folder, group, isa, key), sealed)
    except OSError:
        return False
    prune(folder)
    return True


def prune(folder: Path) -> None:
    """Delete what was not used for 30 days (old versions, what a killed writer left), and the oldest of too many."""
    oldest_kept = time.time() - KEPT_SECONDS
    with contextlib.suppress(OSError):
        files = [(file.stat(follow_symlinks=False).st_mtime, file.path) for file in os.scandir(folder)]
        for place, (used, path) in enumerate(sorted(files, reverse=True)):
            if used < oldest_kept or place >= KEPT_FILES:
                with contextlib.suppress(OSError):
                    os.unlink(path)
