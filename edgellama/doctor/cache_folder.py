"""The folder of compiled kernels, measured settings and made models: its state, and how it is emptied."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from .. import device, system
from ..errors import EdgellamaError
from .finding import NOTE, WELL, WRONG, Finding

KERNELS, MODELS = "kernels", "models"
# What edgellama writes: sealed objects, models of random weights that benchmarks made, and settings; and the temporary
# files that a killed process leaves of them.
_FOLDERS = {
    KERNELS: re.compile(r"\.?[\w-]+\.kernels(\.\w{8})?"),
    MODELS: re.compile(r"\.?[\w.-]+\.gguf(\.\d+)?(\.partial)?"),
}
_SETTINGS_FILE = re.compile(rf"\.?{re.escape(device.SETTINGS_NAME)}(\.\w{{8}})?")


@dataclass(frozen=True)
class Contents:
    """Files of ours with their sizes, and names of what is not."""

    ours: dict[Path, int]
    foreign: list[Path]


def danger_of(folder: Path) -> str | None:
    """Why what lies there may be somebody else's work; None for a folder of this user alone, and for none at all."""
    try:
        status = folder.lstat()
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return "it is a link"
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a folder"
    if os.name != "nt" and status.st_uid != os.geteuid():
        return "it belongs to another user"
    return "other users may write to it" if os.name != "nt" and status.st_mode & 0o022 else None


def obstacle_of(folder: Path) -> str | None:
    """Why nothing can be kept there; None for a folder that is there and writable, or can be made."""
    if os.path.isdir(folder):
        return None if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written"
    parent = next((parent for parent in folder.parents if os.path.lexists(parent)), folder)
    if os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK):
        return None
    return f"it is not there and cannot be made in {parent}"


def check_cache(is_needed: bool) -> Finding:
    """Where it is, how much is in it, and whether it can be used. Wrong: it is unsafe, or needed and impossible."""
    try:
        folder = system.cache_path()
    except RuntimeError:
        return _unusable("none, because there is no home folder", is_needed, {"path": None})
    facts = {"path": str(folder), "exists": folder.is_dir()}
    for place in (folder, *(folder / name for name in _FOLDERS)):
        if danger := danger_of(place):
            return _unusable(f"{place} is not used, because {danger}", True, facts)
    if obstacle := obstacle_of(folder):
        return _unusable(f"{folder} is not used, because {obstacle}", is_needed, facts)
    if not facts["exists"]:
        return Finding("cache", WELL, f"{folder} (empty)", facts)
    contents = contents_of(folder)
    n_bytes = sum(contents.ours.values())
    foreign = f", and {len(contents.foreign)} that are not edgellama's" if contents.foreign else ""
    text = f"{folder}: {len(contents.ours)} files, {n_bytes / 1e6:.1f} MB{foreign}"
    return Finding("cache", WELL, text, facts | {"files": len(contents.ours), "bytes": n_bytes})


def _unusable(text: str, is_wrong: bool, facts: dict) -> Finding:
    more = "kernels that did not come with the package are compiled at every start"
    return Finding("cache", WRONG if is_wrong else NOTE, f"{text}\n{more}", facts)


def contents_of(folder: Path) -> Contents:
    """What is in the folder and in its folders of kernels and models; links are never followed."""
    ours, foreign = {}, []
    for entry in os.scandir(folder):
        if entry.name in _FOLDERS and entry.is_dir(follow_symlinks=False):
            _sort(os.scandir(entry.path), _FOLDERS[entry.name], ours, foreign)
        else:
            _sort([entry], _SETTINGS_FILE, ours, foreign)
    return Contents(ours, foreign)


def _sort(entries, names: re.Pattern, ours: dict[Path, int], foreign: list[Path]) -> None:
    for entry in entries:
        if entry.is_file(follow_symlinks=False) and names.fullmatch(entry.name):
            ours[Path(entry.path)] = entry.stat(follow_symlinks=False).st_size
        else:
            foreign.append(Path(entry.path))


def clean() -> str:
    """Delete what edgellama wrote there, and the folders that are then empty; what was done, as a sentence.

    Raises EdgellamaError for a folder that is not this user's own: a link, another user's, or open to others.
    """
    try:
        folder = system.cache_path()
    except RuntimeError:
        return "There is no home folder, so there is no cache."
    if not os.path.lexists(folder):
        return f"There is no cache: {folder} does not exist."
    for place in (folder, *(folder / name for name in _FOLDERS)):
        if danger := danger_of(place):
            raise EdgellamaError(f"{place} is left as it is, because {danger}")
    contents = contents_of(folder)
    for path in contents.ours:
        path.unlink(missing_ok=True)
    n_bytes = sum(contents.ours.values())
    done = f"Deleted {len(contents.ours)} files ({n_bytes / 1e6:.1f} MB) of the cache in {folder}."
    if contents.foreign:
        names = ", ".join(str(path.relative_to(folder)) for path in sorted(contents.foreign)[:5])
        return f"{done} Left what is not edgellama's: {names}."
    for name in _FOLDERS:
        _remove_empty(folder / name)
    _remove_empty(folder)
    return done


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:  # a running edgellama has just written to it
        raise EdgellamaError(f"{folder} cannot be removed: {error.strerror}; try again") from error
