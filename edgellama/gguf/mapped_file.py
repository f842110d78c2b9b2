"""One file of bytes, mapped read-only, after checks that it is a regular, readable, non-empty file.

The size is checked when the file is opened and again whenever a tensor's bytes are asked for. A file that another
program shortens between that check and the use of the bytes still kills the process (SIGBUS): the operating system
offers no gentler way. A file that is replaced by rename is safe: the mapping keeps the old one.
"""

import errno
import mmap
import os
import stat
from pathlib import Path

import numpy as np

from edgellama.errors import GGUFError

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_REASONS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file: a part of its path is not a directory",
    errno.EACCES: "cannot be read: permission denied",
    errno.EPERM: "cannot be read: permission denied",
    errno.ELOOP: "cannot be read: its symbolic links form a loop",
    errno.ENAMETOOLONG: "no such file: the name is too long",
}


class MappedFile:
    """A read-only mapping of one file. Raises GGUFError, one sentence, when the path is no such file."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.mapping = _map(self.path)
        self.size = len(self.mapping)
        self._bytes = np.frombuffer(self.mapping, np.uint8)
        self._closed = False

    def view(self, offset: int, length: int) -> np.ndarray:
        """Bytes [offset, offset + length) as a read-only uint8 array on the mapping (no copy)."""
        self.check_present(offset + length)
        return self._bytes[offset : offset + length]

    def check_present(self, end: int) -> None:
        """Refuse, with GGUFError, to touch bytes up to `end` when the file was closed or has been cut since."""
        if self._closed:
            raise GGUFError(f"{self.path}: was closed before its bytes were read")
        now = self.mapping.size()
        if end > now:
            raise GGUFError(f"{self.path}: was cut to {now} bytes while open, and bytes up to {end} are needed")

    def release(self, offset: int, length: int) -> None:
        """Give the pages of [offset, offset + length) back to the system; they are read again when touched."""
        from edgellama.system import advise_dontneed

        advise_dontneed(self.view(offset, length).ctypes.data, length)

    def close(self) -> None:
        """Unmap the file, or leave that to the last array that still looks into it."""
        self._closed = True
        self._bytes = np.empty(0, np.uint8)
        try:
            self.mapping.close()
        except BufferError:
            # An unmapped array would crash the process on its next read; its own end unmaps the file.
            return


def _map(path: Path) -> mmap.mmap:
    try:
        _refuse_irregular(path, os.stat(path))
        # Without O_NONBLOCK a pipe put in the file's place after the check above would hang the open.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise GGUFError(f"{path}: {_reason(error)}") from error
    try:
        opened = os.fstat(descriptor)
        _refuse_irregular(path, opened)
        if opened.st_size == 0:
            raise GGUFError(f"{path}: is empty")
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise GGUFError(f"{path}: cannot be mapped: {error}") from error
    finally:
        os.close(descriptor)


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
    raise GGUFError(f"{path}: is {kind}, and a GGUF file is needed")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return _REASONS.get(error.errno, f"cannot be read: {error.strerror}")
    return f"no such file: {error}"
