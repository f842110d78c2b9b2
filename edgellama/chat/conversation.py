"""A chat: messages, the template that makes a prompt of them, and what happens when the context is full."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import ContextFullError, EdgellamaError
from ..generation import ON_FULL, Answer
from . import messages as message_rules
from . import tools as tool_rules
from .prompt import encode, template_for
from .tool_calls import ToolCall, ToolCallStream
from .tool_choice import Choice, required_call

if TYPE_CHECKING:
    from ..model import Model
    from ..session import Session

Message = dict[str, Any]


class ChatAnswer(Answer):
    """An Answer that ends up in a conversation. `text` has no tool calls in it: those are in `tool_calls`.

    `finish_reason` may also be "tool_calls".
    """

    tool_calls: Sequence[ToolCall] = ()

    @property
    def message(self) -> Message:
        """The answer as a message of the conversation."""
        message: Message = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            message["tool_calls"] = [call.as_openai() for call in self.tool_calls]
        return message


class Conversation:
    """Messages exchanged with a model. What the cache has seen of them is not evaluated again.

    `messages` holds all of them, also those (`n_forgotten`, from the oldest, the system message apart) that a full
    context pushed out of what the model sees. `options` go to every answer: max_tokens, stop, fields of SampleOptions.
    """

    def __init__(
        self, model: "Model", messages: Sequence[Message] = (), *, system: str | None = None,
        template: str | None = None, tools: Sequence[dict[str, Any]] = (), on_full: str = "stop",
        session: "Session | None" = None, **options: Any,
    ):  # fmt: skip
        """`template`: a built-in's name or a Jinja file, in place of the model's own. `session`: where to run; without
        one, wherever the model has most of the prompt.

        Raises EdgellamaError for messages, tools or a template that do not work.
        """
        if on_full not in ON_FULL:
            raise EdgellamaError(f"on_full must be one of {', '.join(ON_FULL)}, and is {on_full!r}")
        self.model, self.session, self.on_full, self.options = model, session, on_full, options
        self.tools = tool_rules.validate(tools)
        self.template = template_for(model, template, bool(self.tools))
        start = [{"role": "system", "content": system}] if system else []
        self.messages: list[Message] = message_rules.validate([*start, *messages])
        self.n_forgotten = 0

    def send(self, content: str, **options: Any) -> ChatAnswer:
        """Add a user message, and answer it. If it cannot be answered (ContextFullError, options), nothing is added."""
        before = self.messages, self.n_forgotten
        self.add({"role": "user", "content": content})
        try:
            return self.answer(**options)
        except EdgellamaError:
            self.messages, self.n_forgotten = before
            raise

    def add(self, message: Message) -> "Conversation":
        """Add a message: a user's, or with role "tool" a function's result."""
        self.messages = message_rules.validate([*self.messages, message])
        return self

    def answer(self, tool_choice: Choice = "auto", **options: Any) -> ChatAnswer:
        """What the model says to the messages as they are; its message is added when it ends.

        `tool_choice`: "auto" (the model decides whether it calls a function), "required", or OpenAI's way to name one.
        """
        ids = self._prompt()
        stream = ToolCallStream([tool["function"]["name"] for tool in self.tools]) if self.tools else None
        request = {"max_tokens": None} | self.options | options
        schema = required_call(self.tools, tool_choice)
        if schema:
            request["json_schema"] = schema
        stop = request.pop("stop", ())
        stops = [*([stop] if isinstance(stop, str) else stop), *self.template.stop_strings]
        return ChatAnswer(
            self.model, self._source(ids), ids, stop=stops, make_room=self._room_maker(), on_end=self._keep,
            text_filter=stream, **request,
        )  # fmt: skip

    def undo(self) -> bool:
        """Take back the last user message and all after it; whether there was one."""
        last = self._last_user()
        if last is None:
            return False
        del self.messages[last:]
        self.n_forgotten = min(self.n_forgotten, last - len(self._system()))
        return True

    def retry(self, **options: Any) -> ChatAnswer:
        """Answer the last user message again. Raises EdgellamaError if there is none."""
        last = self._last_user()
        if last is None:
            raise EdgellamaError("there is no message to answer again")
        del self.messages[last + 1 :]
        return self.answer(**options)

    def reset(self) -> None:
        """Forget all but the system message."""
        self.messages = self._system()
        self.n_forgotten = 0

    def set_system(self, text: str | None) -> None:
        """Replace the system message; None or an empty text removes it."""
        others = self.messages[len(self._system()) :]
        start = [{"role": "system", "content": text}] if text else []
        self.messages = message_rules.validate([*start, *others])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write messages and cache to a file. Raises EdgellamaError if that fails."""
        note = json.dumps({"messages": self.messages, "n_forgotten": self.n_forgotten})
        with self._source(self._ids(self._visible())) as session:
            session.save(path, note)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue a conversation that save() wrote with this model; any problem leaves this one as it is."""
        with self._source([]) as session:
            note = session.load(path, _read_note)
        self.messages, self.n_forgotten = note["messages"], note["n_forgotten"]

    def _source(self, ids: list[int]) -> "AbstractContextManager[Session]":
        return nullcontext(self.session) if self.session else self.model.slots.borrow(ids)

    def _keep(self, answer: Answer) -> None:
        """Add what was said; nothing for an answer that was stopped before its first token."""
        stream = answer.text_filter
        answer.tool_calls = stream.calls if stream else ()
        if answer.tool_calls and answer.finish_reason == "stop":
            answer.finish_reason = "tool_calls"
        if answer.ids:
            self.messages.append(answer.message)

    def _system(self) -> list[Message]:
        return [message for message in self.messages[:1] if message["role"] == "system"]

    def _last_user(self) -> int | None:
        roles = [message["role"] for message in self.messages]
        return len(roles) - 1 - roles[::-1].index("user") if "user" in roles else None

    def _visible(self) -> list[Message]:
        system = self._system()
        return system + self.messages[len(system) + self.n_forgotten :]

    def _ids(self, messages: list[Message]) -> list[int]:
        return encode(self.template, messages, self.model.tokenizer, self.tools)

    def _prompt(self) -> list[int]:
        """The prompt for an answer; with on_full="shift" the oldest turns go until a quarter of the context is free."""
        ids, context = self._ids(self._visible()), self.model.context
        while self.on_full == "shift" and len(ids) > context - context // 4 and self._forget_turn():
            ids = self._ids(self._visible())
        if len(ids) >= context:
            raise ContextFullError(
                f"the conversation has {len(ids)} tokens, and the context holds {context}: start a new one, load the"
                " model with a larger context, or let old turns go (on-full shift)"
            )
        return ids

    def _room_maker(self) -> Callable[[Answer], list[int] | None] | None:
        if self.on_full != "shift":
            return None

        def make_room(answer: Answer) -> list[int] | None:
            while self._forget_turn():
                ids = self._ids(self._visible()) + answer.ids
                if len(ids) < self.model.context - self.model.context // 8:
                    return ids
            return None

        return make_room

    def _forget_turn(self) -> bool:
        """Leave the oldest turn that is still visible out of the prompt; False if only the last one is left."""
        start = len(self._system()) + self.n_forgotten
        later = [i for i in range(start + 1, len(self.messages)) if self.messages[i]["role"] == "user"]
        if later:
            self.n_forgotten += later[0] - start
        return bool(later)


def _read_note(text: str) -> dict[str, Any]:
    """The conversation in a session file. Raises EdgellamaError if it is none."""
    try:
        note = json.loads(text)
        count = note["n_forgotten"]
        messages = message_rules.validate(note["messages"])
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise EdgellamaError("it holds a session, but no conversation") from error
    if not isinstance(count, int) or not 0 <= count <= len(messages):
        raise EdgellamaError("it holds a damaged conversation")
    return {"messages": messages, "n_forgotten": count}
