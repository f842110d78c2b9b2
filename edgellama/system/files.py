"""Files that appear whole or not at all, second names for files, and locks."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that is complete or not there, even after a power cut. Only its owner may read it."""
    with atomic_file(path, private=True) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write that appears under its name when it is complete: temporary name, sync, rename, sync.

    The process's umask says who may read it, unless it is private.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder durable. Windows has no such call, and some network file systems refuse it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_file(target: Path, link: Path) -> None:
    """Give a file a second name, replacing what has that name: a relative link, on Windows a hard link.

    A symbolic link shows a person where the bytes are; on Windows making one takes a privilege.
    """
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    if sys.platform == "win32":
        os.link(target, temporary)
    else:
        os.symlink(os.path.relpath(target, link.parent), temporary)
    os.replace(temporary, link)
    sync_folder(link.parent)


@contextlib.contextmanager
def locked_file(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file while the block runs; the system opens the lock when a process dies, however it dies.

    With `wait` false, the block gets False where somebody else holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            holds = _lock(descriptor, wait)
            # Whoever held it may have removed the file meanwhile: a lock on a file without a name keeps nobody out.
            if holds and not _is_at(descriptor, path):
                continue
            yield holds
            if holds:
                with contextlib.suppress(OSError):  # Windows removes no open file, and it may stay
                    os.unlink(path)
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
