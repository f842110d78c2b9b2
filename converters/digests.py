"""SHA-256 of the files that a conversion reads: noted in the output, and compared where the digest is known already.

Known are what an index of shards says (`sha256`: file name -> digest) and the names of Hugging Face's cache, which are
digests. One thread hashes the files while the tensors are converted, so that they are read from the disk once.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

from .errors import ConvertError

_PART_BYTES = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")
_UNKNOWN = "0" * 64  # of the same length as a digest, so that the header can be replaced in place


def indexed_digests(index: Mapping[str, Any], folder: Path) -> dict[Path, str]:
    """What an index of shards says of their digests, at the top or in its metadata; empty if nothing."""
    inside = index.get("metadata")
    found = index.get("sha256") or (inside.get("sha256") if isinstance(inside, dict) else None)
    pairs = found.items() if isinstance(found, dict) else ()
    return {folder / name: digest for name, digest in pairs if isinstance(digest, str)}


class SourceDigests:
    """The digests of `files`, computed while the block runs. `known` are those to compare with, by path."""

    def __init__(self, files: Sequence[Path], known: Mapping[Path, str]):
        self.files = files
        self._known = {path: path.resolve().name for path in files if _HEX.fullmatch(path.resolve().name)} | dict(known)
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "SourceDigests":
        self._hashed = [self._pool.submit(self._hash, path) for path in self.files]
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def keys(self) -> dict[str, Any]:
        """Keys for the output; waits for what is not hashed yet. Raises ConvertError for a file that is another one."""
        digests = [future.result() for future in self._hashed]
        for path, digest in zip(self.files, digests, strict=True):
            if self._known.get(path, digest).lower() != digest:
                raise ConvertError(f"{path}: has another SHA-256 than the checkpoint says; fetch it again")
        return source_keys(self.files, digests)

    def _hash(self, path: Path) -> str:
        state = hashlib.sha256()
        with path.open("rb") as file:
            while not self._stop.is_set() and (part := file.read(_PART_BYTES)):
                state.update(part)
        return state.hexdigest()


def source_keys(files: Sequence[Path], digests: Sequence[str] | None = None) -> dict[str, Any]:
    """The keys that name the source's files; without digests, the same with room for them."""
    return {
        "edgellama.source.files": [path.name for path in files],
        "edgellama.source.sha256": list(digests or [_UNKNOWN] * len(files)),
    }
