"""Breaking lines between words while a text is still being written.

A word is held until it is complete, so nothing that is on the screen has to be taken back. Ideographs are words of
their own; punctuation stays with what it closes or opens (a small part of Unicode's UAX #14). Lines of a code block
are left to the terminal, so that copying them gives what the model wrote.
"""

import unicodedata

import regex
from rich.cells import cell_len

_CLUSTERS = regex.compile(r"\X")  # what a reader takes for one character: an emoji of several code points, say
_FENCE = regex.compile(r"(`{3,}|~{3,})[^`]*")
_CLOSING = ("Pe", "Pf", "Po", "Lm")  # categories that must not begin a line: 。」ー
_OPENING = ("Ps", "Pi")
_TAB_CELLS = 8
_LONGEST_WORD = 1000  # characters to hold back; what is longer is no word


class WordWrap:
    """Takes pieces of a text and gives what can be shown of it, broken into lines.

    Its lines take at most `columns` of the call; only a word wider than that is left to the terminal. White space is
    shown with the word that follows it: a text never begins or ends with empty lines.
    """

    def __init__(self) -> None:
        self._column = 0  # cells that are used of the line
        self._gap = ""  # white space that was not shown yet
        self._word = ""  # its end has not come yet
        self._is_at_start, self._is_code = True, False

    def push(self, piece: str, columns: int) -> str:
        """What can be shown now."""
        *complete, self._word = _units(self._word + piece) or [""]
        if len(self._word) > _LONGEST_WORD:
            complete.append(self._word)
            self._word = ""
        return "".join(self._place(unit, columns) for unit in complete)

    def finish(self, columns: int) -> str:
        """What is left at the end of the text."""
        word, self._word = self._word, ""
        return self._place(word, columns) if word else ""

    def _place(self, unit: str, columns: int) -> str:
        if unit == "\n":
            self._column, self._gap = 0, self._gap.rstrip(" \t") + "\n"
            return ""
        if unit in (" ", "\t"):
            self._gap += unit
            return ""
        if self._column == 0 and _FENCE.fullmatch(unit):
            self._is_code = not self._is_code
        gap, self._gap = "" if self._is_at_start else self._gap, ""
        self._is_at_start = False
        return self._place_word(gap, unit, columns)

    def _place_word(self, gap: str, word: str, columns: int) -> str:
        indent = gap.rpartition("\n")[2]
        start = len((" " * self._column + indent).expandtabs(_TAB_CELLS))
        width = _width(word)
        if self._column > 0 and start + width > columns and not self._is_code:
            gap, start = "\n", 0
        self._column = start + width
        return gap + word


def _units(text: str) -> list[str]:
    """Newlines, spaces and tabs one by one, and words."""
    units: list[str] = []
    before = "\n"
    for cluster in _CLUSTERS.findall(text):
        if _may_break(before, cluster):
            units.append(cluster)
        else:
            units[-1] += cluster
        before = cluster
    return units


def _may_break(before: str, after: str) -> bool:
    if before[0] in "\n \t" or after[0] in "\n \t":
        return True
    if _width(before) < 2 and _width(after) < 2:
        return False
    return unicodedata.category(after[0]) not in _CLOSING and unicodedata.category(before[0]) not in _OPENING


def _width(text: str) -> int:
    """Terminal cells. A cluster takes two at most, also where the table of widths knows no clusters."""
    return sum(min(2, cell_len(cluster)) for cluster in _CLUSTERS.findall(text))
