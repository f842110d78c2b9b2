"""The header of a model on the hub, read before its weights: what it is, and whether it can run here.

The first bytes of each file go into an otherwise empty file of the full size (sparse, so it takes no room), more and
more of them until the reader of GGUF files has seen the whole header. Those tensors have shapes and types, and no data.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EdgellamaError, GGUFError, ModelError
from ..gguf import GGUFFile, open_gguf
from ..gguf.reader import Part
from .download import check_extent
from .hub import Hub, RemoteFile, RemoteModel, Repository
from .web import NetworkError, read_some, retried

_FIRST_BYTES = 1 << 20
_GROWTH = 4
_MOST_HEADER_BYTES = 256 << 20  # the largest vocabularies take 20 MiB


@contextmanager
def remote_model(hub: Hub, repository: Repository, model: RemoteModel) -> Iterator[GGUFFile]:
    """The model as an open file without data. Raises EdgellamaError for a file that this version cannot read."""
    with tempfile.TemporaryDirectory(prefix="edgellama-") as folder:
        try:
            for file in model.files:
                _fetch_header(hub, repository, file, Path(folder) / file.path)
            opened = open_gguf(Path(folder) / model.file)
        except (GGUFError, ModelError) as error:
            raise EdgellamaError(_named(str(error), folder)) from None
        with opened:
            yield opened


def _named(sentence: str, folder: str | os.PathLike[str]) -> str:
    """A sentence about a file in a temporary folder, about the file alone."""
    return sentence.replace(f"{folder}{os.sep}", "")


def _fetch_header(hub: Hub, repository: Repository, file: RemoteFile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as target:
        target.truncate(file.n_bytes)
    present, wanted = 0, min(_FIRST_BYTES, file.n_bytes)
    while True:
        _fetch(hub, repository, file, path, present, wanted)
        present = wanted
        if _is_whole(path, present):
            return
        if present >= min(file.n_bytes, _MOST_HEADER_BYTES):
            raise EdgellamaError(f"{file.path}: its header does not end within {present} bytes")
        wanted = min(present * _GROWTH, file.n_bytes, _MOST_HEADER_BYTES)


def _fetch(hub: Hub, repository: Repository, file: RemoteFile, path: Path, start: int, end: int) -> None:
    """Bytes [start, end) into their place."""

    def attempt() -> None:
        response = hub.open(repository.name, repository.commit, file.path, start, end - 1, None)
        try:
            check_extent(response, start, end, file.n_bytes, hub.host)
            position = start if response.status == 206 else 0  # a server without ranges sends all: take the beginning
            with open(path, "r+b") as target:
                target.seek(position)
                while position < end and (chunk := read_some(response, min(1 << 16, end - position), hub.host)):
                    target.write(chunk)
                    position += len(chunk)
        finally:
            response.close()
        if position < end:
            raise NetworkError(f"{hub.host} ended the header of {file.path} after {position} bytes", passing=True)

    retried(attempt)


def _is_whole(path: Path, present: int) -> bool:
    """Whether the reader is content with the first `present` bytes. Raises GGUFError for what they cannot excuse.

    Zeros stand where bytes are missing, so a reader that was led astray by them has gone past `present`.
    """
    try:
        part = Part(path)
    except GGUFError as error:
        if error.position is None or error.position <= present:
            raise
        return False
    part.file.close()
    return part.header_bytes <= present
