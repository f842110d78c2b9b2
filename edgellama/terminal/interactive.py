"""The loop of a chat with a person at a terminal."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgellama.errors import EdgellamaError
from edgellama.terminal import header, slash_commands, status_line, tool_results
from edgellama.terminal.answer_view import show
from edgellama.terminal.completion import is_command
from edgellama.terminal.cooked_input import CookedInput
from edgellama.terminal.ctrl_c import ctrl_c_calls, nothing
from edgellama.terminal.echo import no_echo
from edgellama.terminal.line_input import LineInput
from edgellama.terminal.safe_text import safe_line
from edgellama.terminal.screen import Screen

if TYPE_CHECKING:
    from edgellama.chat.conversation import ChatAnswer, Conversation

_HINTS = ("/help for commands", "Ctrl-C stops an answer", "Ctrl-D leaves")


class Chat:
    """A conversation, where it is shown, and its switches: what slash commands work on."""

    def __init__(
        self, conversation: "Conversation", screen: Screen, markdown: bool, shows_status: bool, history: Path | None
    ):
        self.conversation, self.screen = conversation, screen
        self.markdown, self.shows_status = markdown, shows_status
        self.is_over = False
        self._input = LineInput(screen.notes, history) if screen.obeys_escapes else CookedInput(screen.notes)
        self._last: ChatAnswer | None = None

    def run(self, loaded: str | None = None) -> None:
        """Until the person leaves. `loaded`: the file that the conversation is from."""
        facts = header.facts(self.conversation)
        named = (f"{name} {facts[name]}" for name in ("context", "template"))
        self.screen.figures([facts["model"], facts["weights"], *named])
        self.screen.figures(_HINTS)
        if warning := header.warning(self.conversation):
            self.screen.note(warning)
        if loaded:
            self.show_loaded(loaded)
        with ctrl_c_calls(nothing):
            while not self.is_over:
                self._turn()

    def _turn(self) -> None:
        """Read a message or command, and do what it asks for."""
        self.screen.note()
        try:
            self._handle(self._input.message())
        except EOFError:
            self.is_over = True
        except KeyboardInterrupt:
            self.screen.note("Ctrl-D or /exit leaves")
        except EdgellamaError as error:
            self.screen.error(str(error))

    def answer(self, begin: "Callable[[], ChatAnswer]") -> None:
        """Run an answer that `begin` gives and show it; then, as long as it calls functions, ask for their results."""
        answer = self._answer(begin)
        while answer.tool_calls and answer.finish_reason != "cancelled":
            results = tool_results.ask(answer.tool_calls, self.screen, self._input.line)
            if not results:
                return
            answer = self._answer(lambda results=results: self._with(results))

    def show_loaded(self, path: str | Path) -> None:
        """Tell what a chat that was loaded is about."""
        messages = self.conversation.messages
        self.screen.note(f"loaded: {path}, {len(messages)} messages")
        for message in messages[-2:]:
            self.screen.note(f"  {message['role']}: {safe_line(message.get('content') or '', 160)}")

    def statistics(self) -> dict[str, str]:
        """What /stats shows."""
        statistics = header.facts(self.conversation)
        statistics |= {"messages": str(len(self.conversation.messages)), "memory": status_line.memory()}
        if self._last is None:
            return statistics
        context = self.conversation.model.context
        return statistics | {
            "context": f"{status_line.context_used(self._last, context)} of {context} tokens",
            "prefill": status_line.prefill(self._last),
            "decode": status_line.decode(self._last),
            "seed": str(self._last.stats.seed),
            "ended by": str(self._last.finish_reason),
        }

    def _handle(self, text: str) -> None:
        if is_command(text):
            slash_commands.run(self, text)
        elif text:
            content = text.removeprefix("/") if text.startswith("//") else text
            self.answer(lambda: self.conversation.send(content))

    def _with(self, results: list[dict]) -> "ChatAnswer":
        for message in results:
            self.conversation.add(message)
        return self.conversation.answer()

    def _answer(self, begin: "Callable[[], ChatAnswer]") -> "ChatAnswer":
        """If nothing comes of it, the conversation is as it was: what was asked would stand there without an answer."""
        conversation = self.conversation
        before = list(conversation.messages), conversation.n_forgotten
        is_answered = False
        try:
            answer = begin()
            with no_echo():
                show(answer, self.screen, self.markdown)
            is_answered = bool(answer.ids)
        finally:
            if not is_answered:
                conversation.messages, conversation.n_forgotten = before
        self._last = answer
        if not is_answered:
            self.screen.note("there is no answer: the chat is as it was before")
        n_newly_forgotten = conversation.n_forgotten - before[1]
        status_line.report(answer, n_newly_forgotten, conversation.model.context, self.screen, self.shows_status)
        return answer
