"""Typing a message: editing, history, several lines, completion."""

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, get_common_complete_suffix
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from edgellama.terminal import multi_line
from edgellama.terminal.completion import ChatCompleter, is_command
from edgellama.terminal.history import open_history

_PROMPT, _CONTINUATION = ">>> ", "... "
_STYLE = Style.from_dict({"prompt": "bold", "continuation": "dim"})


class LineInput:
    """Reads messages from the person at a terminal; shows what is typed on `notes`.

    While it reads, Ctrl-C is a key like others. prompt_toolkit's own handling of the signal is off: it restores the
    handler that was there before with a gap in which a second Ctrl-C ends the program.
    """

    def __init__(self, notes: TextIO, history_file: Path | None):
        self._output = _output(notes)
        self._session: PromptSession[str] = PromptSession(
            output=self._output,
            style=_STYLE,
            history=open_history(history_file),
            completer=ChatCompleter(),
            complete_while_typing=Condition(lambda: is_command(self._session.default_buffer.text)),
            multiline=True,
            key_bindings=_key_bindings(),
            prompt_continuation=lambda width, line, is_wrapped: "" if is_wrapped else _styled("continuation"),
        )

    def message(self) -> str:
        """The next message or command. Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C on an empty line."""
        return multi_line.message(self._session.prompt(_styled("prompt"), handle_sigint=False))

    def line(self, prompt: str) -> str:
        """One line, which history does not keep. Raises as message() does."""
        session: PromptSession[str] = PromptSession(output=self._output)
        return session.prompt(prompt, handle_sigint=False).strip()


def _output(notes: TextIO) -> Output:
    output = create_output(stdout=notes)
    if isinstance(output, Vt100_Output):
        # Asking a terminal where its cursor is gains nothing here, and over a slow line the reply becomes input.
        output.enable_cpr = False
    return output


def _styled(name: str) -> FormattedText:
    return FormattedText([(f"class:{name}", _PROMPT if name == "prompt" else _CONTINUATION)])


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()
    for keys, action in _KEYS.items():
        bindings.add(*keys)(action)
    return bindings


def _enter(event: KeyPressEvent) -> None:
    buffer = event.current_buffer
    if buffer.complete_state and buffer.complete_state.current_completion:
        buffer.complete_state = None  # the chosen completion stays, and can be added to
    elif multi_line.is_complete(buffer.text):
        buffer.validate_and_handle()
    else:
        _new_line(event)


def _tab(event: KeyPressEvent) -> None:
    """Take the only candidate, or what all have in common; then show them, and go on from one to the next."""
    buffer = event.current_buffer
    is_choosing = buffer.complete_state and buffer.complete_state.current_completion
    asked = CompleteEvent(completion_requested=True)
    candidates = [] if is_choosing else list(buffer.completer.get_completions(buffer.document, asked))
    common = get_common_complete_suffix(buffer.document, candidates) if len(candidates) > 1 else ""
    if len(candidates) == 1:
        buffer.apply_completion(candidates[0])
    elif common:
        buffer.insert_text(common)
    elif buffer.complete_state:
        buffer.complete_next()
    elif candidates:
        buffer.start_completion(select_first=False)


def _new_line(event: KeyPressEvent) -> None:
    buffer = event.current_buffer
    before = buffer.document.text_before_cursor
    if before.endswith(multi_line.BACKSLASH):
        buffer.delete_before_cursor()
    buffer.insert_text("\n")


def _ctrl_c(event: KeyPressEvent) -> None:
    """Clear what is typed; with nothing typed, tell the chat."""
    buffer = event.current_buffer
    if buffer.text:
        buffer.document = Document()
    else:
        event.app.exit(exception=KeyboardInterrupt())


_KEYS: dict[tuple[str, ...], Callable[[KeyPressEvent], None]] = {
    ("enter",): _enter,
    ("tab",): _tab,
    ("escape", "enter"): _new_line,
    ("c-c",): _ctrl_c,
}
