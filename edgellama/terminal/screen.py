"""Where a chat shows what: answers on standard output, all else on a terminal, in lines that fit it."""

import os
import textwrap
import time
from collections.abc import Iterable
from typing import TextIO

from edgellama import system
from edgellama.terminal.safe_text import safe

_DIM, _BOLD, _RED, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"
_ERASE_LINE = "\r\x1b[K"
_SEPARATOR = " · "
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Screen:
    """`answers` is where the model's text goes, `notes` where the program speaks; they may be the same terminal.

    `is_typed`: a person types the messages, and may see the answers whatever pipe they go through.
    """

    def __init__(self, answers: TextIO, notes: TextIO, is_typed: bool = False):
        self.answers, self.notes, self.is_typed = answers, notes, is_typed
        self.shows_answers = system.is_terminal(answers)
        self.obeys_escapes = system.is_terminal(notes) and os.environ.get("TERM") != "dumb"
        self._has_styles = self.obeys_escapes and not os.environ.get("NO_COLOR")
        self._is_passing = False  # a passing line is shown

    @property
    def columns(self) -> int:
        """Cells that a line may take: one less than there are, since some terminals break a full line at once."""
        for stream in (self.answers, self.notes):
            try:
                columns = os.get_terminal_size(stream.fileno()).columns
            except (OSError, ValueError, AttributeError):
                continue
            return max(columns - 1, 8) if columns else 79
        return 79

    def write(self, text: str) -> None:
        """Add to the answer, as it is."""
        self.erase_passing()
        self.answers.write(text)
        self.answers.flush()

    def note(self, text: str = "", style: str = _DIM, indent: int = 2) -> None:
        """A line, or several, from the program; what does not fit is broken between words and indented."""
        self.erase_passing()
        columns = self.columns
        spaces = " " * min(indent, columns // 2)
        for line in safe(text).split("\n"):
            parts = textwrap.wrap(line, columns, subsequent_indent=spaces, break_on_hyphens=False) or [""]
            for part in parts:
                self.notes.write(f"{style}{part}{_RESET}\n" if self._has_styles and part else f"{part}\n")
        self.notes.flush()

    def table(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Rows in columns; the last column takes what is left of the line."""
        rows = list(rows)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
        for *cells, last in rows:
            begin = "".join(f"{cell:<{width}}  " for cell, width in zip(cells, widths, strict=True))
            self.note(begin + last, indent=len(begin))

    def heading(self, text: str) -> None:
        """A line from the program that stands out."""
        self.note(text, _BOLD)

    def error(self, text: str) -> None:
        """What did not work, and why."""
        self.note(f"error: {text}", _RED)

    def figures(self, parts: Iterable[str]) -> None:
        """Facts side by side, on as few lines as they fit on."""
        self.note("\n".join(join(parts, self.columns)))

    def passing(self, text: str) -> None:
        """Show a line until something else is written; nothing where lines cannot be erased."""
        if self.obeys_escapes:
            frame = _FRAMES[int(time.monotonic() * 10) % len(_FRAMES)]
            line = f"{frame} {end_of(safe(text), self.columns - 2)}"
            self.notes.write(f"{_ERASE_LINE}{_DIM}{line}{_RESET}" if self._has_styles else f"{_ERASE_LINE}{line}")
            self.notes.flush()
            self._is_passing = True

    def erase_passing(self) -> None:
        """Take the passing line away."""
        if self._is_passing:
            self.notes.write(_ERASE_LINE)
            self.notes.flush()
            self._is_passing = False


def end_of(line: str, columns: int) -> str:
    """The end of a line that fits."""
    from rich.cells import cell_len

    line = line.expandtabs()
    while cell_len(line) > columns:
        line = line[max(1, (cell_len(line) - columns) // 2) :]
    return line


def join(parts: Iterable[str], columns: int) -> list[str]:
    """Parts with separators between them, on as few lines as they fit on."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(_SEPARATOR) + len(part) <= columns:
            lines[-1] += _SEPARATOR + part
        else:
            lines.append(part)
    return lines
