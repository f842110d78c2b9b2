"""Tab completion of slash commands, the names and values of settings, and files."""

from collections.abc import Iterable, Iterator

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from edgellama.terminal.settings import SETTINGS
from edgellama.terminal.slash_commands import COMMANDS

_FILE_COMMANDS = ("/save", "/load")


class ChatCompleter(Completer):
    """Completes lines that begin with one slash, and nothing else."""

    def __init__(self) -> None:
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What may stand at the cursor."""
        text = document.text_before_cursor
        if not is_command(text) or "\n" in text:
            return
        command, space, argument = text.partition(" ")
        if not space:
            yield from _matching(command, {_with_space(name): known.help for name, known in COMMANDS.items()})
        elif command in _FILE_COMMANDS:
            yield from self._files.get_completions(Document(argument), complete_event)
        elif command == "/set":
            yield from _setting(argument)


def _with_space(name: str) -> str:
    """Where an argument may follow, the space before it is part of the completion."""
    return f"{name} " if COMMANDS[name].argument else name


def is_command(text: str) -> bool:
    """Whether a typed text is an order to the program, not a message."""
    return text.startswith("/") and not text.startswith("//")


def _setting(argument: str) -> Iterator[Completion]:
    name, space, value = argument.partition(" ")
    if not space:
        yield from _matching(name, {f"{known} ": setting.help for known, setting in SETTINGS.items()})
    elif name in SETTINGS:
        yield from _matching(value, dict.fromkeys(SETTINGS[name].choices, ""))


def _matching(begin: str, candidates: dict[str, str]) -> Iterable[Completion]:
    for candidate, meaning in candidates.items():
        if candidate.startswith(begin):
            yield Completion(candidate, start_position=-len(begin), display=candidate.rstrip(), display_meta=meaning)
