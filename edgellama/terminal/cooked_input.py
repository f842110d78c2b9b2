"""Typing a message at a terminal that obeys no escape sequences: the system's own line editing."""

import sys
from typing import TextIO

from edgellama.terminal import multi_line
from edgellama.terminal.ctrl_c import ctrl_c_calls, interrupt


class CookedInput:
    """Reads messages as LineInput does; a new line begins as there, Alt-Enter apart."""

    def __init__(self, notes: TextIO):
        self._notes = notes

    def message(self) -> str:
        """The next message or command. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        text = self.line(">>> ")
        while not multi_line.is_complete(text):
            text = f"{text.removesuffix(multi_line.BACKSLASH)}\n{self.line('... ')}"
        return multi_line.message(text)

    def line(self, prompt: str) -> str:
        """One line. Raises as message() does."""
        try:
            with ctrl_c_calls(interrupt):
                self._notes.write(prompt)
                self._notes.flush()
                line = sys.stdin.readline()
        except KeyboardInterrupt:
            self._notes.write("\n")
            raise
        if not line:
            raise EOFError
        return line.rstrip("\r\n")
