"""The Hugging Face hub, as far as getting a model takes: what a repository holds, and a file's bytes.

    GET /api/models/OWNER/REPO/revision/REVISION?blobs=true     commit, and files with sizes and digests
    GET /OWNER/REPO/resolve/COMMIT/FILE                         the bytes, mostly after a redirect to another host

https://huggingface.co/docs/hub/api describes the first. All that comes back is a stranger's: sizes are bounded, names
must fit the pattern of `names`, and digests are what the bytes are held against.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import EdgellamaError
from . import names
from .web import NetworkError, Response, StatusError, Web, read_some, retried

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"
_MOST_ANSWER_BYTES = 16 << 20
_LARGEST_FILE_BYTES = 1 << 46
_HEX = re.compile(r"[0-9a-f]+")
_NEEDS_TOKEN, _MISSING = (401, 403), 404


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. `digest` is sha256-HEX of its bytes or, for a file outside LFS, git-HEX of its blob."""

    path: str
    n_bytes: int
    digest: str

    def hasher(self) -> Any:
        """A hash object whose hexdigest over all bytes of the file must be the digest's."""
        if self.digest.startswith("sha256-"):
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.n_bytes)  # how git names a blob

    @property
    def hex(self) -> str:
        return self.digest.partition("-")[2]


@dataclass(frozen=True)
class RemoteModel:
    """One model of a repository: its files in order, the first part of a split model first."""

    files: tuple[RemoteFile, ...]

    @property
    def file(self) -> str:
        return self.files[0].path

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)


@dataclass(frozen=True)
class Repository:
    """What a repository held at one commit."""

    name: str
    commit: str
    models: tuple[RemoteModel, ...]


class Hub:
    """One endpoint. Raises EdgellamaError for what the user can mend and NetworkError for what the hub got wrong."""

    def __init__(self, endpoint: str | None = None, token: str | None = None):
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self.has_token = token is not None
        self._web = Web(self.endpoint, token)
        self.host = self._web.endpoint.hostname

    def repository(self, name: str, revision: str = DEFAULT_REVISION) -> Repository:
        """The models in a repository. Raises EdgellamaError if it does not exist or may not be seen."""
        if not names.is_repository(name) or not names.is_revision(revision):
            raise EdgellamaError(
                f"{name} at {revision} is no repository and revision: OWNER/REPO and a branch or commit"
            )
        url = f"{self.endpoint}/api/models/{name}/revision/{quote(revision, safe='')}?blobs=true"
        try:
            answer = retried(lambda: self._json(url))
        except StatusError as error:
            raise self._explained(error, name, f"no repository {name} with a revision {revision}") from None
        try:
            return _read_repository(name, answer)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise NetworkError(f"{self.host} describes {name} in a way that makes no sense") from None

    def open(self, repository: str, commit: str, file: str, first: int, last: int | None, etag: str | None) -> Response:
        """An answer with a file's bytes from `first` to `last`, or from byte 0 where the server ignores that (200).

        With an `etag`, a server whose file has another one sends all of it. Raises EdgellamaError and NetworkError.
        """
        headers = {}
        if first or last is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
            if etag and not etag.startswith("W/"):
                headers["If-Range"] = etag
        try:
            return self._web.get(f"{self.endpoint}/{repository}/resolve/{commit}/{quote(file)}", headers)
        except StatusError as error:
            raise self._explained(error, repository, f"no file {file} in {repository}") from None

    def _json(self, url: str) -> Any:
        response = self._web.get(url)
        try:
            data = b""
            while len(data) <= _MOST_ANSWER_BYTES and (more := read_some(response, 1 << 16, self.host)):
                data += more
        finally:
            response.close()
        if len(data) > _MOST_ANSWER_BYTES:
            raise NetworkError(f"{self.host} answers with more than {_MOST_ANSWER_BYTES >> 20} MiB of description")
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            is_cut = bool(response.length)  # what Content-Length promised and the connection did not bring
            raise NetworkError(f"{self.host} answers with something that is no JSON", passing=is_cut) from None

    def _explained(self, error: StatusError, repository: str, missing: str) -> Exception:
        if error.status == _MISSING:
            return EdgellamaError(f"{self.host} has {missing}")
        if error.status not in _NEEDS_TOKEN:
            return error
        if self.has_token:
            return EdgellamaError(
                f"{self.host} does not show {repository} to the owner of this token: it does not exist, or its "
                f"conditions must be accepted first at {self.endpoint}/{repository}"
            )
        return EdgellamaError(
            f"{self.host} does not show {repository} without a token: it does not exist, or needs one in HF_TOKEN"
        )


def _read_repository(name: str, answer: Any) -> Repository:
    commit = answer["sha"]
    if not isinstance(commit, str) or not names.is_revision(commit):
        raise ValueError
    found = [_read_file(entry) for entry in answer["siblings"]]
    files = {file.path: file for file in found if file is not None}
    models = []
    for path in files:
        parts = names.split_parts(path)
        if parts and all(part in files for part in parts):
            models.append(RemoteModel(tuple(files[part] for part in parts)))
    return Repository(name, commit, tuple(models))


def _read_file(entry: Any) -> RemoteFile | None:
    """A GGUF file of the list; None for other files, and for names that are not safe to use."""
    path = entry["rfilename"]
    if not isinstance(path, str) or not names.is_file(path):
        return None
    lfs = entry.get("lfs")
    n_bytes, kind, value = (lfs["size"], "sha256", lfs["sha256"]) if lfs else (entry["size"], "git", entry["blobId"])
    n_digits = {"sha256": 64, "git": 40}[kind]
    if not isinstance(n_bytes, int) or not 0 < n_bytes <= _LARGEST_FILE_BYTES:
        raise ValueError
    if len(value) != n_digits or not _HEX.fullmatch(value):
        raise ValueError
    return RemoteFile(path, n_bytes, f"{kind}-{value}")


def find_token() -> str | None:
    """The token in HF_TOKEN, else in the file where the hub's own tools keep it; None without one.

    Raises EdgellamaError, which does not show it, for a text that cannot be a token.
    """
    token = os.environ.get("HF_TOKEN") or _token_in_file()
    token = token.strip() if token else ""
    if not re.fullmatch(r"[!-~]{0,512}", token):
        raise EdgellamaError("the token in HF_TOKEN or in the hub's token file holds characters that no token has")
    return token or None


def _token_in_file() -> str | None:
    try:
        path = os.environ.get("HF_TOKEN_PATH")
        return Path(path).read_text() if path else (_hub_home() / "token").read_text()
    except (OSError, ValueError, RuntimeError):
        return None


def _hub_home() -> Path:
    named = os.environ.get("HF_HOME")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
