"""What one check found, and how it is made fit to be shown to strangers."""

import getpass
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WELL, NOTE, WRONG = "well", "note", "wrong"  # a note is worth knowing, and needs no action


@dataclass(frozen=True)
class Finding:
    """`text` is for people, one line or several; `facts` are the same for programs, sizes in bytes."""

    name: str
    state: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def anonymous(text: str) -> str:
    """The text with the home folder as ~ and without the user's name in other paths."""
    for home in _homes():
        text = re.sub(rf"{re.escape(home)}(?=[\\/\s:;,)'\"]|$)", "~", text)
    name = _user_name()
    return re.sub(rf"(?<=[\\/]){re.escape(name)}(?=[\\/\s]|$)", "USER", text) if name else text


def anonymous_facts(value: Any) -> Any:
    """The same for every text in a value that JSON can hold."""
    if isinstance(value, str):
        return anonymous(value)
    if isinstance(value, dict):
        return {key: anonymous_facts(item) for key, item in value.items()}
    return [anonymous_facts(item) for item in value] if isinstance(value, list | tuple) else value


def _homes() -> list[str]:
    """The home folder as it is named and as it is without links; not one so short that it would be everywhere."""
    try:
        home = Path.home()
        names = {str(home), os.path.realpath(home)}
    except (OSError, RuntimeError):
        return []
    return sorted((name for name in names if len(name) > 1), key=len, reverse=True)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as in some containers
        return ""
