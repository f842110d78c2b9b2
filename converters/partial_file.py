"""The output while it grows: OUT.partial beside the target, and a journal of what of it is safely on the disk.

The file gets its own name when it is complete and synced. A run that was killed can go on: the journal says how many
bytes of tensors were synced, and from what. If the source, the options or the program changed since, all begins anew.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import edgellama
from edgellama import system

from .source_file import read_optional_json

_SYNC_BYTES = 1 << 28  # written between two entries of the journal


def fingerprint(header: bytes, files: Sequence[Path]) -> str:
    """Tells this conversion from any other: its header, the size and time of its source files, the version."""
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(header + json.dumps([edgellama.__version__, stamps]).encode()).hexdigest()


@dataclass
class PartialFile:
    """`done` is how many bytes of tensor data the file has from an earlier run."""

    file: IO[bytes]
    journal: Path
    mark: str
    done: int
    synced: int

    def note(self, n_bytes: int) -> None:
        """So many bytes of tensors are written: now and then sync them and say so in the journal."""
        if n_bytes - self.synced < _SYNC_BYTES:
            return
        self.file.flush()
        os.fsync(self.file.fileno())
        system.write_atomically(self.journal, json.dumps({"of": self.mark, "bytes": n_bytes}).encode())
        self.synced = n_bytes

    def replace_header(self, header: bytes) -> None:
        """Put another header of the same length in place of the first."""
        self.file.seek(0)
        self.file.write(header)


@contextlib.contextmanager
def partial_file(target: Path, header: bytes, mark: str, resume: bool) -> Iterator[PartialFile]:
    """A file to append tensors to, which becomes `target` when the block ends well.

    After an error nothing is left of it. After Ctrl-C it stays if `resume` of a later run can use it.
    """
    path, journal = partial_path(target), journal_path(target)
    done = _finished(path, journal, header, mark) if resume else 0
    if not done:
        path.write_bytes(header)
        journal.unlink(missing_ok=True)
    try:
        with path.open("r+b") as file:
            file.truncate(len(header) + done)
            file.seek(0, os.SEEK_END)
            partial = PartialFile(file, journal, mark, done, done)
            yield partial
            file.flush()
            os.fsync(file.fileno())
        os.replace(path, target)
    except BaseException as error:
        if not (isinstance(error, KeyboardInterrupt) and journal.is_file()):
            _remove(path, journal)
        raise
    _remove(journal)
    system.sync_folder(target.parent)


def partial_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def journal_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial.json")


def _finished(path: Path, journal: Path, header: bytes, mark: str) -> int:
    """Bytes of tensors that an earlier run of the same conversion has synced; 0 where none can be trusted."""
    entry = read_optional_json(journal)
    n_bytes = entry.get("bytes")
    if entry.get("of") != mark or type(n_bytes) is not int or not path.is_file():
        return 0
    with path.open("rb") as file:
        same = file.read(len(header)) == header
    return n_bytes if same and 0 < n_bytes <= path.stat().st_size - len(header) else 0


def _remove(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
