"""Where this user's files belong, and how much room there is."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path


def cache_folder() -> Path | None:
    """This user's cache folder, made if missing; None where no folder is safely this user's own.

    What lies there is loaded as code, so a folder that another user owns or may write, or a link, is never used.
    `EDGELLAMA_CACHE` names another place.
    """
    try:
        folder = cache_path()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _is_private(folder) else None
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None


def cache_path() -> Path:
    """Where this user's cache folder belongs, whether or not it is there. RuntimeError: there is no home folder."""
    override = os.environ.get("EDGELLAMA_CACHE")
    if override:
        return Path(override).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "edgellama"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/edgellama"
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if os.path.isabs(named) else Path.home() / ".cache"  # the specification: ignore relative ones
    return base / "edgellama"


def _is_private(folder: Path) -> bool:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    if sys.platform == "win32":  # access lists there; the profile folder's own is inherited
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def models_folder() -> Path:
    """Where this user's models lie; it need not exist. `EDGELLAMA_MODELS` names another place.

    See the XDG Base Directory Specification. Raises OSError where there is no home folder.
    """
    override = os.environ.get("EDGELLAMA_MODELS")
    if override:
        return Path(override).expanduser().absolute()
    try:
        return _data_path() / "edgellama" / "models"
    except RuntimeError as error:
        raise OSError("there is no home folder for models; EDGELLAMA_MODELS names a folder for them") from error


def _data_path() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support"
    named = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".local/share"


def chat_history_path() -> Path:
    """The file for what is typed in chats; it need not exist. RuntimeError: there is no home folder.

    See the XDG Base Directory Specification.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    base = Path(named) if os.path.isabs(named) else Path.home() / ".local" / "state"
    return base / "edgellama" / "chat_history"


def free_disk_bytes(folder: Path) -> int:
    """Room for this user on the disk that holds the folder, or will hold it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
