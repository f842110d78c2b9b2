"""A file's bytes, from the hub into the store: resumed where an earlier try stopped, verified before they get a name.

What has arrived is a file under .downloads named after the digest that the whole must have, so that parts of different
versions never meet; the server's ETag is kept beside it, and a server that sends another one starts the file anew.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from .. import system
from ..errors import EdgellamaError
from .hub import Hub, RemoteFile, Repository
from .store import Store
from .web import NetworkError, Patience, Response, StatusError, read_some

_CHUNK_BYTES = 1 << 18
_PROGRESS_BYTES = 16 << 20  # a try that brought so much does not count as a failed one
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_RANGE_REFUSED = 416

Report = Callable[[str, int], None]  # what is being done, and up to which byte of the file


class Download:
    """One file on its way."""

    def __init__(self, hub: Hub, repository: Repository, file: RemoteFile, store: Store):
        self.hub, self.repository, self.file, self.store = hub, repository, file, store
        self.part = store.downloads / file.digest
        self._etag_path = store.downloads / f"{file.digest}.etag"

    @property
    def present_bytes(self) -> int:
        """What need not be fetched again."""
        if self.store.has(self.file.digest, self.file.n_bytes):
            return self.file.n_bytes
        return min(self.part.stat().st_size, self.file.n_bytes) if self.part.is_file() else 0

    def run(self, report: Report) -> None:
        """Bring the whole file into the store; `report` hears of "getting" and "checking" it.

        Raises NetworkError when the hub keeps failing or sends other bytes than it promised, and EdgellamaError while
        another process is at it; what has arrived is kept, unless it is wrong.
        """
        with system.locked_file(self.store.downloads / f"{self.file.digest}.lock", wait=False) as is_ours:
            if not is_ours:
                raise EdgellamaError(f"another program is downloading {self.file.path} now; wait until it is done")
            if not self.store.has(self.file.digest, self.file.n_bytes):
                self._run(report)

    def _run(self, report: Report) -> None:
        had_some = self.present_bytes > 0
        while True:
            try:
                return self._fetch_all(report)
            except _WrongBytesError as error:
                self._discard()
                if not had_some:
                    raise NetworkError(f"{error}: it is not kept") from None
                had_some = False  # the part may be what was wrong, from a disk that lost power

    def _fetch_all(self, report: Report) -> None:
        patience, counted = Patience(), self.present_bytes
        while True:
            try:
                self._attempt(report)
                return
            except NetworkError as error:
                if self.present_bytes - counted >= _PROGRESS_BYTES:
                    counted = self.present_bytes
                    patience.renew()
                patience.wait(error)

    def _attempt(self, report: Report) -> None:
        """Fetch what is missing, verify all, and move the file to its place."""
        try:
            with open(self.part, "r+b" if self.part.exists() else "x+b") as part:
                part.truncate(self.present_bytes)
                if self.present_bytes < self.file.n_bytes:
                    self._append(part, report)
                self._verify(part, report)
                os.fsync(part.fileno())
        except OSError as error:
            if error.errno and error.filename is None:  # a failed write does not say of which file, and users need it
                error.filename = str(self.part)
            raise
        os.replace(self.part, self.store.blob(self.file.digest))
        system.sync_folder(self.store.blobs)
        self._etag_path.unlink(missing_ok=True)

    def _append(self, part: IO[bytes], report: Report) -> None:
        response = self._open(part)
        try:
            _receive(response, part, self.file, self.hub.host, report)
        finally:
            response.close()

    def _open(self, part: IO[bytes]) -> Response:
        """The answer with the bytes that `part` lacks; `part` ends where they begin."""
        start = part.seek(0, os.SEEK_END)
        etag = self._read_etag()
        try:
            response = self.hub.open(self.repository.name, self.repository.commit, self.file.path, start, None, etag)
        except StatusError as error:
            if error.status == _RANGE_REFUSED:
                part.truncate(0)
                raise NetworkError(str(error), passing=True) from None
            raise
        found = response.headers.get("ETag")
        is_other = response.status == 206 and etag is not None and found is not None and found != etag
        if response.status == 200 or is_other:
            part.truncate(0)
            part.seek(0)
        self._write_etag(found)
        if is_other:
            response.close()
            raise NetworkError(f"{self.file.path} has changed while it was downloaded", passing=True)
        return response

    def _verify(self, part: IO[bytes], report: Report) -> None:
        part.seek(0)
        hasher = self.file.hasher()
        while chunk := part.read(_CHUNK_BYTES):
            hasher.update(chunk)
            report("checking", part.tell())
        if hasher.hexdigest() != self.file.hex:
            raise _WrongBytesError(f"{self.file.path} arrived with other bytes than {self.hub.host} promised")

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._etag_path.unlink(missing_ok=True)

    def _read_etag(self) -> str | None:
        with suppress(OSError, ValueError):
            text = self._etag_path.read_text("ascii")
            return text if re.fullmatch(r"[!-~]{1,200}", text) else None
        return None

    def _write_etag(self, etag: str | None) -> None:
        if etag and re.fullmatch(r"[!-~]{1,200}", etag):
            self._etag_path.write_text(etag, "ascii")
        else:
            self._etag_path.unlink(missing_ok=True)


class _WrongBytesError(Exception):
    """The digest is another one."""


def _receive(response: Response, part: IO[bytes], file: RemoteFile, host: str | None, report: Report) -> None:
    """Append an answer to the file. Raises NetworkError where it says or sends another length than the file has."""
    position = part.tell()
    check_extent(response, position, file.n_bytes, file.n_bytes, host)
    while chunk := read_some(response, _CHUNK_BYTES, host):
        position += len(chunk)
        if position > file.n_bytes:
            raise NetworkError(f"{host} sends more than the {file.n_bytes} bytes of {file.path}")
        part.write(chunk)
        report("getting", position)
    part.flush()
    if position < file.n_bytes:
        raise NetworkError(f"{host} ended {file.path} after {position} of {file.n_bytes} bytes", passing=True)


def check_extent(response: Response, start: int, end: int, total: int, host: str | None) -> None:
    """Refuse an answer whose headers say that it is not bytes [start, end) of a file of `total` bytes."""
    if response.status == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not match or (int(match[1]), int(match[2])) != (start, end - 1) or match[3] not in (str(total), "*"):
            raise NetworkError(f"{host} sends another part of the file than it was asked for")
    length = response.headers.get("Content-Length")
    expected = end - start if response.status == 206 else total
    if length is not None and length != str(expected):
        raise NetworkError(f"{host} says that {length[:20]} bytes follow, and {expected} were expected")
