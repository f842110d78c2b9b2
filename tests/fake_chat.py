"""The command line with a model that says what the test wants: `python fake_chat.py chat MODEL ...`.

The last user message chooses what happens; see `_script`. Only the conversation and the model are made up, all that a
person sees is the program's.
"""

import sys
import threading
import time
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from edgellama import cli
from edgellama.chat import conversation as real
from edgellama.chat.tool_calls import ToolCall
from edgellama.errors import ContextFullError, EdgellamaError

MARKDOWN = "# Title\n\nSome *stressed* words.\n\n- one\n- two\n\n```python\nx = 1\n\ny = 2\n```\n\nThe end."


def _script(text: str, messages: list[dict]) -> Iterator[str]:
    """The pieces of the answer to a text; longer ones than a test waits for are slow."""
    if text == "slow":
        for number in range(10_000):
            yield f"word{number} "
            time.sleep(0.02)
    elif text == "think":
        time.sleep(0.9)
        yield "thought"
    elif text == "attack":
        yield from ("\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "safe\r", "\nend")
    elif text == "markdown":
        yield from MARKDOWN
    elif text == "wide":
        yield from "日本語の文章です。" * 12
    elif text == "words":
        yield from ("wonder", "ful " * 40)
    elif text == "messages":
        yield " | ".join(f"{message['role']}: {message['content']}" for message in messages)
    elif text != "nothing":
        yield from ("You ", "said: ", text)


class FakeAnswer:
    """Ends when cancelled, also while it waits to begin, as a long prompt does."""

    context_full = False

    def __init__(self, conversation: "FakeConversation", text: str):
        self.conversation, self.question = conversation, text
        self.text, self.ids, self.tool_calls, self.finish_reason = "", [], (), None
        self.stats = SimpleNamespace(
            prompt_tokens=12, cached_tokens=2, prompt_rate=123.4, prompt_seconds=0.1, generated_tokens=0,
            generate_rate=5.6, generate_seconds=0.1, seed=7,
        )  # fmt: skip
        self._is_cancelled = threading.Event()

    def cancel(self) -> None:
        self._is_cancelled.set()

    def __iter__(self) -> Iterator[str]:
        if self.question == "long":
            self._is_cancelled.wait(60)
        most = self.conversation.options.get("max_tokens")
        for piece in _script(self.question, self.conversation.messages):
            if self._is_cancelled.is_set() or self.stats.generated_tokens == most:
                break
            self.ids.append(1)
            self.stats.generated_tokens += 1
            self.text += piece
            yield piece
        self._end(most)

    def _end(self, most: int | None) -> None:
        self.finish_reason = "length" if self.stats.generated_tokens == most else "stop"
        if self._is_cancelled.is_set():
            self.finish_reason = "cancelled"
        if self.question == "weather":
            arguments = {"city": "Oslo\x1b[2J", "days": 2}
            self.tool_calls = [ToolCall("weather", arguments, "c1")]
            self.ids.append(1)
        self.context_full = self.question == "full"
        if self.context_full:
            self.finish_reason = "length"
        if self.ids:
            self.conversation.messages.append({"role": "assistant", "content": self.text})


class FakeConversation(real.Conversation):
    """Answers from the script; messages are kept by the real rules."""

    def answer(self, **options) -> FakeAnswer:
        text = self.messages[-1]["content"]
        if text == "too long":
            raise ContextFullError("the conversation has 9999 tokens")
        return FakeAnswer(self, text)

    def save(self, path) -> None:
        with _one_sentence(path):
            path.write_bytes(b"EDGESESS" + repr(self.messages).encode())

    def load(self, path) -> None:
        with _one_sentence(path), open(path, "rb") as file:
            self.messages = literal_eval(file.read()[8:].decode())


@contextmanager
def _one_sentence(path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgellamaError(f"{path}: {error.strerror}") from error


def main() -> int:
    real.Conversation = FakeConversation
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
