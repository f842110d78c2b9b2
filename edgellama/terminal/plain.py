"""A chat without a person: messages from a pipe or the command line, only answers on standard output."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edgellama.errors import EdgellamaError
from edgellama.terminal import header, status_line
from edgellama.terminal.answer_view import show
from edgellama.terminal.screen import Screen

if TYPE_CHECKING:
    from edgellama.chat.conversation import Conversation

_INTERRUPTED = 130


def run(
    conversation: "Conversation", messages: Iterable[str], screen: Screen, markdown: bool, shows_status: bool
) -> int:
    """Answer one message after the other; the exit code. Function calls are one JSON object a line.

    Raises EdgellamaError for a message that cannot be answered.
    """
    warning = header.warning(conversation)
    for message in messages:
        n_forgotten = conversation.n_forgotten
        answer = conversation.send(message)
        show(answer, screen, markdown)
        for call in answer.tool_calls:
            screen.write(json.dumps(call.as_openai()) + "\n")
        if shows_status and warning:
            screen.note(warning)
            warning = None
        n_newly_forgotten = conversation.n_forgotten - n_forgotten
        status_line.report(answer, n_newly_forgotten, conversation.model.context, screen, shows_status)
        if answer.finish_reason == "cancelled":
            return _INTERRUPTED
    return 0


def lines() -> Iterator[str]:
    """The lines of standard input that are not empty. Raises EdgellamaError for one that is no UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise EdgellamaError(f"line {number} of standard input is no UTF-8 text") from error
        if text:
            yield text
