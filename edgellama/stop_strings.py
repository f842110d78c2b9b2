"""Ending a text at the first of some strings, when the text comes in pieces."""

from collections.abc import Sequence

from .errors import EdgellamaError


class StopStrings:
    """Holds back what may be the beginning of a stop string; the string itself and what follows are never shown.

    `is_stopped` tells that one has come.
    """

    def __init__(self, strings: str | Sequence[str]):
        """Raises EdgellamaError for anything but texts that are not empty."""
        self.strings = (strings,) if isinstance(strings, str) else tuple(strings)
        for string in self.strings:
            if not isinstance(string, str) or not string:
                raise EdgellamaError(f"a stop string must be a text that is not empty, and is {string!r}")
        self.is_stopped = False
        self._held = ""

    def push(self, piece: str) -> str:
        """What can be shown now."""
        if self.is_stopped:
            return ""
        text = self._held + piece
        places = [place for place in map(text.find, self.strings) if place >= 0]
        if places:
            self.is_stopped, self._held = True, ""
            return text[: min(places)]
        n_shown = len(text) - max((_overlap(text, string) for string in self.strings), default=0)
        self._held = text[n_shown:]
        return text[:n_shown]

    def finish(self, piece: str) -> str:
        """What is left at the end of the text, whose last piece is `piece`."""
        shown = self.push(piece)
        rest, self._held = self._held, ""
        return shown + rest


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of `text` that begins `string`, short of all of it."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
