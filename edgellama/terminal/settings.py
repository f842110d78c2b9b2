"""What `/set` knows: every option of choosing tokens, and how the chat behaves."""

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from edgellama.commands.sample_options import OPTIONS, SampleOption, check
from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    from edgellama.terminal.interactive import Chat


class Setting(NamedTuple):
    """`read` gives the value as a person writes it, `write` takes that and raises EdgellamaError or ValueError."""

    read: Callable[["Chat"], str]
    write: Callable[["Chat", str], None]
    help: str
    choices: tuple[str, ...] = ()


def change(chat: "Chat", name: str, text: str) -> None:
    """Set one setting. Raises EdgellamaError, and changes nothing, for an unknown name or a value that cannot be."""
    setting = find(name)
    if setting.choices and text not in setting.choices:
        raise EdgellamaError(f"{name} must be one of {', '.join(setting.choices)}, and is {text!r}")
    try:
        setting.write(chat, text)
    except ValueError:
        raise EdgellamaError(f"{name} cannot be {text!r}: {setting.help}") from None


def find(name: str) -> Setting:
    """The setting of this name. Raises EdgellamaError with the nearest name if there is none."""
    from edgellama.terminal.suggestion import unknown

    if name not in SETTINGS:
        raise EdgellamaError(unknown("setting", name, SETTINGS))
    return SETTINGS[name]


def listing(chat: "Chat") -> list[tuple[str, str]]:
    """Name and value of each setting."""
    return [(name, setting.read(chat)) for name, setting in SETTINGS.items()]


def _sampling(option: SampleOption) -> Setting:
    def read(chat: "Chat") -> str:
        from edgellama.sampling import SampleOptions

        return _as_text(chat.conversation.options.get(option.name, getattr(SampleOptions(), option.name)))

    def write(chat: "Chat", text: str) -> None:
        value = _parse(option, text)
        check(chat.conversation.options | {option.name: value})
        chat.conversation.options[option.name] = value

    return Setting(read, write, option.help)


def _parse(option: SampleOption, text: str) -> Any:
    if option.collect:
        return option.collect([option.parse(word) for word in _words(text)])
    return None if option.name == "seed" and text == "random" else option.parse(text)


def _words(text: str) -> list[str]:
    """Words that spaces separate; quotes hold one together, and a backslash is a backslash."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    return list(lexer)


def _as_text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={bias:g}" for key, bias in value.items()) or "none"
    if isinstance(value, list | tuple):
        return " ".join(map(repr, value)) or "none"
    return "random" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _max_tokens() -> Setting:
    def read(chat: "Chat") -> str:
        value = chat.conversation.options.get("max_tokens")
        return "none" if value is None else str(value)

    def write(chat: "Chat", text: str) -> None:
        value = None if text == "none" else int(text)
        if value is not None and value < 1:
            raise ValueError
        chat.conversation.options["max_tokens"] = value

    return Setting(read, write, "tokens of an answer at most, 1 or more; none: as many as fit")


def _on_full() -> Setting:
    def write(chat: "Chat", text: str) -> None:
        chat.conversation.on_full = text

    help_line = "when the context is full: stop, or shift the oldest messages out"
    return Setting(lambda chat: chat.conversation.on_full, write, help_line, ("stop", "shift"))


def _switch(attribute: str, help_line: str) -> Setting:
    def write(chat: "Chat", text: str) -> None:
        setattr(chat, attribute, text == "on")

    return Setting(lambda chat: "on" if getattr(chat, attribute) else "off", write, help_line, ("on", "off"))


SETTINGS: dict[str, Setting] = {option.name.replace("_", "-"): _sampling(option) for option in OPTIONS} | {
    "max-tokens": _max_tokens(),
    "on-full": _on_full(),
    "markdown": _switch("markdown", "show headings, lists and code as such"),
    "status": _switch("shows_status", "show the figures of each answer"),
}
