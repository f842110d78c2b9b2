"""What was typed in chats, which edgellama keeps outside its cache."""

import contextlib

from .. import system
from ..errors import EdgellamaError


def forget() -> str:
    """Delete the history, and its folder if nothing else is there; what was done, as a sentence, or nothing.

    Raises EdgellamaError where the file cannot be deleted.
    """
    try:
        path = system.chat_history_path()
        path.unlink()
    except (RuntimeError, FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise EdgellamaError(f"{path} cannot be deleted: {error.strerror}") from error
    with contextlib.suppress(OSError):  # somebody else's file lies there too
        path.parent.rmdir()
    return f"Deleted what was typed in chats, {path}."
