"""What was typed in earlier chats: a file in the user's state folder that nobody else can read."""

import os
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from edgellama import system

_MOST_BYTES = 1 << 20


def open_history(path: Path | None) -> History:
    """The history in a file, made if missing; one that ends with the program if there is no such file."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(path, 0o600)
        _shorten(path)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def default_path() -> Path | None:
    """Where the history belongs; None without a home."""
    try:
        return system.chat_history_path()
    except RuntimeError:
        return None


def _shorten(path: Path) -> None:
    """Keep the later half of a file that has grown large; entries are separated by empty lines."""
    if path.stat().st_size <= _MOST_BYTES:
        return
    data = path.read_bytes()[-_MOST_BYTES // 2 :]
    system.write_atomically(path, data[data.find(b"\n\n") + 1 :])
