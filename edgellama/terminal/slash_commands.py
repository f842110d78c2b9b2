"""What a person at the chat can order with a line that begins with a slash."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgellama.errors import EdgellamaError
from edgellama.terminal import settings
from edgellama.terminal.safe_text import safe_line
from edgellama.terminal.suggestion import unknown

if TYPE_CHECKING:
    from edgellama.terminal.interactive import Chat


_HINT = "; /help lists them, and a message that begins with a slash is typed with two"


class SlashCommand(NamedTuple):
    """`run(chat, argument)` raises EdgellamaError for what cannot be done."""

    run: Callable[["Chat", str], None]
    argument: str
    help: str


def run(chat: "Chat", line: str) -> None:
    """Do what a line like `/save FILE` says. Raises EdgellamaError for an unknown command too."""
    name, _, argument = line.strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        raise EdgellamaError(unknown("command", name, COMMANDS, _HINT))
    command.run(chat, argument.strip())


def _help(chat: "Chat", argument: str) -> None:
    commands = [(f"{name} {command.argument}", command.help) for name, command in COMMANDS.items()]
    chat.screen.table([*commands, ("", ""), *_KEYS])


_KEYS = (
    ("Enter", "send"),
    ("Alt-Enter, \\ Enter", 'a new line; so does Enter between """ and """'),
    ("Ctrl-C", "stop the answer, or clear what is typed"),
    ("Ctrl-D", "leave"),
    ("//text", "send a text that begins with a slash"),
)


def _system(chat: "Chat", argument: str) -> None:
    if argument:
        chat.conversation.set_system(None if argument == "none" else argument)
    messages = chat.conversation.messages
    current = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
    chat.screen.note("there is no system message" if current is None else f"system message: {current}")


def _reset(chat: "Chat", argument: str) -> None:
    chat.conversation.reset()
    chat.screen.note("a new chat begins; the system message stays")


def _retry(chat: "Chat", argument: str) -> None:
    if chat.conversation.options.get("seed") is not None:
        chat.screen.note("the seed is set, so the answer will be the same: /set seed random")
    chat.answer(chat.conversation.retry)


def _undo(chat: "Chat", argument: str) -> None:
    before = chat.conversation.messages
    questions = [message["content"] for message in before if message["role"] == "user"]
    if not chat.conversation.undo():
        raise EdgellamaError("there is nothing to take back")
    chat.screen.note(f"taken back: {safe_line(questions[-1], 60)}")


def _save(chat: "Chat", argument: str) -> None:
    path = _path(argument, "/save")
    if os.path.exists(path) and not is_session_file(path):
        raise EdgellamaError(f"{path}: there is another file of this name, which is no saved chat: choose a new name")
    chat.conversation.save(path)
    chat.screen.note(f"saved: {path}")


def _load(chat: "Chat", argument: str) -> None:
    path = _path(argument, "/load")
    chat.conversation.load(path)
    chat.show_loaded(path)


def _set(chat: "Chat", argument: str) -> None:
    name, _, value = argument.partition(" ")
    if not name:
        chat.screen.table(settings.listing(chat))
        chat.screen.note("/set NAME tells what a setting means")
        return
    if value.strip():
        settings.change(chat, name, value.strip())
    setting = settings.find(name)
    chat.screen.note(f"{name} is {setting.read(chat)}" + ("" if value else f": {setting.help}"))


def _tools(chat: "Chat", argument: str) -> None:
    if not chat.conversation.tools:
        chat.screen.note("the model has no functions to call: start with --tools FILE")
    for tool in chat.conversation.tools:
        function = tool["function"]
        names = ", ".join(function.get("parameters", {}).get("properties", {}))
        chat.screen.note(f"{function['name']}({names}): {safe_line(function.get('description', ''))}")


def _stats(chat: "Chat", argument: str) -> None:
    chat.screen.table(chat.statistics().items())


def _exit(chat: "Chat", argument: str) -> None:
    chat.is_over = True


def _path(argument: str, command: str) -> Path:
    if not argument:
        raise EdgellamaError(f"{command} needs the name of a file")
    return Path(os.path.expanduser(argument))


def is_session_file(path: Path) -> bool:
    """Whether a file begins as saved chats do: only those are overwritten."""
    from edgellama.session_file import MAGIC

    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


COMMANDS: dict[str, SlashCommand] = {
    "/help": SlashCommand(_help, "", "this list"),
    "/system": SlashCommand(_system, "[TEXT]", "show or change the system message; none removes it"),
    "/reset": SlashCommand(_reset, "", "begin a new chat"),
    "/retry": SlashCommand(_retry, "", "answer the last message again"),
    "/undo": SlashCommand(_undo, "", "take the last message and its answer back"),
    "/save": SlashCommand(_save, "FILE", "write the chat to a file"),
    "/load": SlashCommand(_load, "FILE", "go on with a chat from a file"),
    "/set": SlashCommand(_set, "[NAME [VALUE]]", "show or change settings"),
    "/tools": SlashCommand(_tools, "", "list the functions that the model may call"),
    "/stats": SlashCommand(_stats, "", "show figures of the last answer and the model"),
    "/exit": SlashCommand(_exit, "", "leave"),
}
