"""Where pulled models lie, in a form that a person can read and other programs can use:

    OWNER/REPO/FILE.gguf            a link to the bytes; any program can open it
    OWNER/REPO/FILE.gguf.json       what is known of the model: files, digests, where it came from
    .blobs/sha256-HEX               the bytes of each file once, whatever names it has
    .downloads/sha256-HEX           what an interrupted download has so far, with its .etag and, while it runs, .lock

A blob appears by rename when it is complete and verified, a model when all its blobs are there and its JSON file is
written. What is half done has no name in OWNER/REPO.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import system
from ..errors import EdgellamaError
from . import names

_VERSION = 1
_MOST_MANIFEST_BYTES = 1 << 20
_DIGEST = re.compile(r"sha256-[0-9a-f]{64}|git-[0-9a-f]{40}")


@dataclass(frozen=True)
class StoredFile:
    """`path` in the repository."""

    path: str
    n_bytes: int
    digest: str


@dataclass(frozen=True)
class StoredModel:
    """A model under its name; `folder` is that of its repository in the store."""

    repository: str
    commit: str
    endpoint: str
    pulled: str  # when, UTC, ISO 8601
    files: tuple[StoredFile, ...]
    folder: Path = field(repr=False, compare=False)

    @property
    def file(self) -> str:
        return self.files[0].path

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)

    @property
    def path(self) -> Path:
        """The file to load."""
        return self.folder / self.file

    @property
    def is_whole(self) -> bool:
        """Whether all its bytes are still there."""
        paths = [self.folder / file.path for file in self.files]
        return all(p.is_file() and p.stat().st_size == f.n_bytes for p, f in zip(paths, self.files, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Plain values, as the file on disk has them."""
        values = asdict(self)
        return {"version": _VERSION} | {key: value for key, value in values.items() if key != "folder"}


class Store:
    """The models of this user. Methods raise EdgellamaError for names and damaged files, OSError for the disk."""

    def __init__(self, root: Path | None = None):
        self.root = system.models_folder() if root is None else root
        self.blobs, self.downloads = self.root / ".blobs", self.root / ".downloads"

    def blob(self, digest: str) -> Path:
        return self.blobs / digest

    def has(self, digest: str, n_bytes: int) -> bool:
        """Whether the bytes are here, all of them."""
        path = self.blob(digest)
        return path.is_file() and path.stat().st_size == n_bytes

    def create(self) -> None:
        """Make the folders that a download needs."""
        for folder in (self.root, self.blobs, self.downloads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def models(self, repository: str | None = None) -> list[StoredModel]:
        """All models, or those of one repository, by name."""
        pattern = f"{repository}/**/*.gguf.json" if repository else "*/*/**/*.gguf.json"
        paths = (path for path in self.root.glob(pattern) if not path.relative_to(self.root).parts[0].startswith("."))
        return sorted(map(self._read, paths), key=lambda model: (model.repository, model.file))

    def find(self, name: names.ModelName, prefer: bool = True) -> StoredModel:
        """The model that a name means. Raises EdgellamaError, which tells how to get it, where there is none."""
        here = self.models(name.repository)
        if not here:
            advice = f"get it with `edgellama pull {name}`, or see `edgellama list`"
            raise EdgellamaError(f"{name} is no file, and no model of this name was pulled: {advice}")
        try:
            return names.choose(name, here, f"the store, of {name.repository},", prefer)
        except EdgellamaError as error:
            raise EdgellamaError(f"{error}\nor get another one with `edgellama pull {name}`") from None

    def add(self, model: StoredModel) -> None:
        """Give blobs that are here a name, in place of what had it."""
        with self._lock():
            missing = [file.path for file in model.files if not self.has(file.digest, file.n_bytes)]
            if missing:
                raise EdgellamaError(f"{missing[0]} was removed from the store meanwhile; pull it again")
            old = self._known(model.repository, model.file)
            for file in model.files:
                link = model.folder / file.path
                link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                system.link_file(self.blob(file.digest), link)
            content = json.dumps(model.as_json(), indent=1)
            system.write_atomically(_manifest(model.folder, model.file), content.encode())
            if old is not None:
                self._drop_unused(old)

    def remove(self, model: StoredModel) -> int:
        """Take away a name, and the bytes that no other name has. How many bytes that frees."""
        with self._lock():
            _manifest(model.folder, model.file).unlink()
            for file in model.files:
                link = model.folder / file.path
                with suppress(FileNotFoundError):
                    link.unlink()
                self._remove_empty(link.parent)
            return self._drop_unused(model)

    def unfinished(self) -> list[Path]:
        """What interrupted downloads left, and blobs that never got a name."""
        used = {file.digest for model in self.models() for file in model.files}
        parts = [path for path in _files(self.downloads) if _DIGEST.fullmatch(path.name)]
        return parts + [path for path in _files(self.blobs) if path.name not in used]

    def remove_unfinished(self) -> int:
        """Remove those that no download works on. How many bytes that frees."""
        freed = 0
        self.create()
        with self._lock():
            for path in self.unfinished():
                with system.locked_file(self.downloads / f"{path.name}.lock", wait=False) as is_free:
                    if is_free:
                        freed += path.stat().st_size
                        path.unlink()
                        (self.downloads / f"{path.name}.etag").unlink(missing_ok=True)
        return freed

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with system.locked_file(self.root / ".lock"):
            yield

    def _known(self, repository: str, file: str) -> StoredModel | None:
        path = _manifest(self.root / repository, file)
        return self._read(path) if path.exists() else None

    def _drop_unused(self, model: StoredModel) -> int:
        used = {file.digest for other in self.models() for file in other.files}
        freed = 0
        for digest in {file.digest for file in model.files} - used:
            with suppress(FileNotFoundError):
                freed += self.blob(digest).stat().st_size
                self.blob(digest).unlink()
        return freed

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:  # not empty
                return
            folder = folder.parent

    def _read(self, path: Path) -> StoredModel:
        try:
            if path.stat().st_size > _MOST_MANIFEST_BYTES:
                raise ValueError
            return self._checked(path, json.loads(path.read_bytes()))
        except (KeyError, TypeError, ValueError, RecursionError):
            raise EdgellamaError(f"{path}: is damaged; remove it and pull the model again") from None

    def _checked(self, path: Path, values: Any) -> StoredModel:
        files = tuple(StoredFile(**entry) for entry in values["files"])
        texts = [values[key] for key in ("repository", "commit", "endpoint", "pulled")]
        model = StoredModel(*texts, files, self.root / values["repository"])
        is_sound = values["version"] == _VERSION and names.is_repository(model.repository)
        is_sound = is_sound and all(isinstance(text, str) for text in texts) and all(map(_is_sound, files))
        if not is_sound or _manifest(model.folder, model.file) != path:
            raise ValueError
        return model


def _manifest(folder: Path, file: str) -> Path:
    return folder / f"{file}.json"


def _is_sound(file: StoredFile) -> bool:
    return names.is_file(file.path) and bool(_DIGEST.fullmatch(file.digest)) and isinstance(file.n_bytes, int)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(entry) for entry in os.scandir(folder) if entry.is_file()) if folder.is_dir() else []
