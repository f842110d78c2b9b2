"""Showing an answer while it is written: as it is in a file or pipe, in whole words or as Markdown on a terminal."""

import time
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from edgellama.terminal.answering import stream
from edgellama.terminal.safe_text import safe
from edgellama.terminal.screen import Screen

if TYPE_CHECKING:
    from edgellama.chat.conversation import ChatAnswer

_PATIENCE_SECONDS = 0.5  # a prompt that is read sooner needs no words


class AnswerView(Protocol):
    """Shows one answer; after `finish` the cursor is at the start of a line."""

    def push(self, piece: str) -> None: ...
    def finish(self) -> None: ...


class RawView:
    """Every character as the model wrote it, for programs; for people without those that a terminal obeys."""

    def __init__(self, screen: Screen):
        self._screen = screen
        self._is_empty = True

    def push(self, piece: str) -> None:
        self._is_empty = False
        self._screen.write(safe(piece) if self._screen.is_typed else piece)

    def finish(self) -> None:
        if not self._is_empty:
            self._screen.write("\n")


class TextView:
    """Whole words, broken into the terminal's lines."""

    def __init__(self, screen: Screen):
        from edgellama.terminal.word_wrap import WordWrap

        self._screen, self._wrap = screen, WordWrap()
        self._is_empty = True

    def push(self, piece: str) -> None:
        self._show(self._wrap.push(safe(piece), self._screen.columns))

    def finish(self) -> None:
        self._show(self._wrap.finish(self._screen.columns))
        if not self._is_empty:
            self._screen.write("\n")

    def _show(self, text: str) -> None:
        if text:
            self._is_empty = False
            self._screen.write(text)


class MarkdownView:
    """Rendered blocks; the line that is being written stands below them until its block is complete."""

    def __init__(self, screen: Screen):
        from edgellama.terminal.markdown import MarkdownBlocks, console

        self._screen, self._blocks = screen, MarkdownBlocks()
        self._is_first = True
        self._console = console(screen.answers, screen.columns)

    def push(self, piece: str) -> None:
        for block in self._blocks.push(safe(piece)):
            self._show(block)
        if self._blocks.preview:
            self._screen.passing(self._blocks.preview)

    def finish(self) -> None:
        block = self._blocks.finish()
        if block.strip():
            self._show(block)
        self._screen.erase_passing()

    def _show(self, block: str) -> None:
        from edgellama.terminal.markdown import render

        self._screen.erase_passing()
        if not self._is_first:
            self._console.print()
        self._is_first = False
        render(block, self._console)
        self._screen.answers.flush()


def show(answer: "ChatAnswer", screen: Screen, markdown: bool = False) -> None:
    """Run an answer to its end and show it as it comes. Ctrl-C ends it. Raises what the answer raises."""
    view = _view(screen, markdown)
    begin, has_begun = time.monotonic(), False
    try:
        with closing(stream(answer)) as pieces:
            for piece in pieces:
                if piece is not None:
                    has_begun = True
                    view.push(piece)
                elif not has_begun and (seconds := time.monotonic() - begin) > _PATIENCE_SECONDS:
                    screen.passing(f"reading the prompt: {answer.stats.prompt_tokens} tokens, {seconds:.0f} s")
    finally:
        screen.erase_passing()
        view.finish()


def _view(screen: Screen, markdown: bool) -> AnswerView:
    if not screen.shows_answers:
        return RawView(screen)
    return MarkdownView(screen) if markdown else TextView(screen)
