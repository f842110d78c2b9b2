"""`edgellama chat [MODEL]`: talk with a model at a terminal, or answer messages from a pipe."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from edgellama import system
from edgellama.commands import UsageError, model_options, prompt, sample_options
from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    from edgellama.chat.conversation import Conversation
    from edgellama.model import Model
    from edgellama.terminal.screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [MODEL] [options]"
    model_help = "a GGUF file (of several, the first) or a pulled model (default: the small demo that comes along)"
    parser.add_argument("model", metavar="MODEL", nargs="?", help=model_help)
    prompt.add_arguments(parser)
    parser.add_argument("--lines", action="store_true", help="every line of standard input is a message")
    chat = parser.add_argument_group("the chat")
    chat.add_argument("-s", "--system", metavar="TEXT", help="what the model is told before the first message")
    chat.add_argument(
        "--template", metavar="NAME", help="a built-in chat template, or a Jinja file (default: the model's)"
    )
    chat.add_argument(
        "--tools", metavar="FILE", help="functions that the model may call: a JSON list in OpenAI's shape"
    )
    chat.add_argument("--load", metavar="FILE", dest="saved", help="go on with a chat that /save wrote")
    parser.add_argument(
        *("-n", "--max-tokens"),
        type=model_options.positive,
        metavar="N",
        help="tokens of an answer at most (default: as many as fit)",
    )
    sample_options.add_arguments(parser)
    model_options.add_arguments(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--markdown", action="store_true", help="show headings, lists and code of answers as such")
    output.add_argument("-q", "--quiet", "--no-status", action="store_true", help="no figures after an answer")
    output.add_argument("--no-history", action="store_true", help="do not keep what is typed for later chats")


def main(args: argparse.Namespace) -> int:
    """Chat until there are no more messages; 0, or 130 after Ctrl-C in a pipe. Raises EdgellamaError."""
    has_text = prompt.is_given(args)
    if args.lines and has_text:
        raise UsageError("--lines reads standard input, in place of --prompt and --file")
    is_typed = system.is_terminal(sys.stdin) and not has_text
    if is_typed and (system.is_terminal(sys.stdout) or system.is_terminal(sys.stderr)):
        return _interactive(args)
    if args.lines or is_typed:
        return _plain(args, None)
    message = prompt.without_last_newline(prompt.read(args))
    if not message:
        raise EdgellamaError("the message is empty")
    return _plain(args, [message])


def _interactive(args: argparse.Namespace) -> int:
    from edgellama.terminal.history import default_path
    from edgellama.terminal.interactive import Chat

    options = _options(args)
    with model_options.load(args) as model:
        conversation = _conversation(model, options, args.saved)
        history = None if args.no_history else default_path()
        chat = Chat(conversation, _screen(is_typed=True), args.markdown, not args.quiet, history)
        chat.run(args.saved)
    return 0


def _plain(args: argparse.Namespace, messages: list[str] | None) -> int:
    """`messages`: None reads the lines of standard input."""
    from edgellama.terminal import plain

    options = _options(args)
    with model_options.load(args) as model:
        conversation = _conversation(model, options, args.saved)
        source = plain.lines() if messages is None else messages
        return plain.run(conversation, source, _screen(is_typed=False), args.markdown, not args.quiet)


def _screen(is_typed: bool) -> "Screen":
    """The program speaks on standard error, except to a person at a terminal."""
    from edgellama.terminal.screen import Screen

    is_one = is_typed and system.is_terminal(sys.stdout)
    return Screen(sys.stdout, sys.stdout if is_one else sys.stderr, is_typed)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """What the arguments say of the conversation. Raises EdgellamaError for values and files that do not work."""
    options = sample_options.values(args)
    sample_options.check(options)
    if args.tools:
        options["tools"] = sample_options.read_json(args.tools)
    if args.model is None:
        options.setdefault("on_full", "shift")  # the context of the model that comes along is short
    return options | {"system": args.system, "template": args.template, "max_tokens": args.max_tokens}


def _conversation(model: "Model", options: dict[str, Any], saved: str | None) -> "Conversation":
    """A new conversation, or the one in the file `saved`, with the system message that the options have."""
    from edgellama.chat.conversation import Conversation

    conversation = Conversation(model, **options)
    if saved:
        conversation.load(saved)
        if options["system"]:
            conversation.set_system(options["system"])
    return conversation
