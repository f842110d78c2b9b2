"""Markdown shown block by block: a paragraph, list or table is rendered when the one after it begins.

What is shown is never touched again, so it stays right in the terminal's scrollback. Until a block is complete its
last line can be shown as it is, see `preview`.
"""

import re
from typing import ClassVar, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown
from rich.segment import Segment, Segments
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_CODE_THEME = "ansi_dark"  # the terminal's own colours, on the terminal's own background


def console(file: TextIO, columns: int) -> Console:
    """A console of so many columns for render(). It has colours where the file is a terminal that has them."""
    return Console(file=file, width=columns, theme=Theme({"markdown.code": "cyan"}))


class MarkdownBlocks:
    """Takes pieces of a text and gives its blocks as they become complete."""

    def __init__(self) -> None:
        self._lines: list[str] = []  # of the block that is being written
        self._line = ""
        self._fence = ""  # what closes the code block that is open
        self._is_after_blank = False

    @property
    def preview(self) -> str:
        """The last line as far as it is written."""
        return self._line or (self._lines[-1] if self._lines else "")

    def push(self, piece: str) -> list[str]:
        """The blocks that are complete now."""
        *complete, self._line = (self._line + piece).split("\n")
        blocks = [self._add(line) for line in complete]
        if self._line:
            blocks.append(self._end_before(self._line))
        return [block for block in blocks if block]

    def finish(self) -> str:
        """The block that the end of the text completes; may be empty."""
        block = self._take() + self._line
        self._line = self._fence = ""
        return block

    def _add(self, line: str) -> str:
        """Add a line; the block that was complete before it, if any."""
        block = self._end_before(line)
        self._lines.append(line)
        fence = _FENCE.match(line)
        if self._fence:
            if line.strip().startswith(self._fence) and not line.strip(" `~"):
                self._fence = ""
        elif fence:
            self._fence = fence[1]
        self._is_after_blank = not line.strip()
        return block

    def _end_before(self, line: str) -> str:
        """After a blank line, one that is not indented begins a new block: an indented one may belong to a list."""
        if self._is_after_blank and not self._fence and line.strip() and not line[0].isspace():
            return self._take()
        return ""

    def _take(self) -> str:
        block = "".join(f"{line}\n" for line in self._lines)
        self._lines, self._is_after_blank = [], False
        return block if block.strip() else ""


class _Heading(Heading):
    """At the left, where reading begins."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text.assemble((f"{'#' * int(self.tag[1:])} ", "dim"), self.text, style="bold")


class _Code(CodeBlock):
    """Between its fences, and not indented: what is copied from the screen is code."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(f"```{self.lexer_name.removeprefix('text')}", style="dim")
        code = str(self.text).rstrip()
        yield Syntax(code, self.lexer_name, theme=_CODE_THEME, background_color="default", word_wrap=True)
        yield Text("```", style="dim")


class _Markdown(Markdown):
    elements: ClassVar = Markdown.elements | {"heading_open": _Heading, "fence": _Code, "code_block": _Code}


def render(block: str, console: Console) -> None:
    """Print a block. Links show where they lead: a text that hides its address is an invitation to mislead."""
    lines = [_trimmed(line) for line in console.render_lines(_Markdown(block, hyperlinks=False), pad=False)]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    console.print(Segments([segment for line in lines for segment in (*line, Segment.line())]), end="")


def _trimmed(line: list[Segment]) -> list[Segment]:
    """Without the spaces that fill a line up to the terminal's edge."""
    line = list(line)
    while line and not line[-1].text.strip():
        line.pop()
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []
