"""Chats: exchanges of all kinds in a row, sometimes with a system message in front."""

import random
from collections.abc import Iterator

from .facts import fact
from .names import introduction, recall
from .noise import typed
from .stories import story
from .topics import all_topics

Message = dict[str, str]

_SYSTEM = (
    "You are a helpful assistant.",
    "You are a helpful, honest assistant. Answer briefly.",
    "Answer in one sentence.",
    "You are edgellama's demo model.",
    "You tell short stories.",
    "You are a pirate.",
    "Be polite and short.",
    "You are an expert in everything.",
    "Write a commit message.",
    "Answer like a teacher.",
)
_SHARES = {"topic": 66, "fact": 19, "story": 10, "introduction": 3, "recall": 2}
_ANOTHER = (
    "Another one",
    "Another one, please.",
    "One more",
    "One more, please!",
    "Again",
    "Another",
    "more",
    "next one",
)


def chats(seed: int, left_out: frozenset[str]) -> Iterator[list[Message]]:
    """Chats without end. Questions in `left_out`, as `plain` writes them, are kept for the examination."""
    rng = random.Random(seed)
    while True:
        yield _chat(rng, left_out)


def plain(question: str) -> str:
    """A question without what does not change it: capitals and marks."""
    return "".join(c for c in question.lower() if c.isalnum() or c == " ").strip()


def _chat(rng: random.Random, left_out: frozenset[str]) -> list[Message]:
    messages: list[Message] = []
    if rng.random() < 0.2:
        messages.append({"role": "system", "content": rng.choice(_SYSTEM)})
    teller = _Teller(rng)
    for _ in range(min(1 + int(rng.expovariate(0.45)), 12)):
        question, answer = teller.exchange()
        if plain(question) in left_out:
            continue
        messages.append({"role": "user", "content": typed(question, rng)})
        messages.append({"role": "assistant", "content": answer})
    return messages


class _Teller:
    """Makes the exchanges of one chat, and knows what was in it that a later question may go back to."""

    def __init__(self, rng: random.Random):
        self._rng = rng
        self._name: str | None = None
        self._last = ""

    def exchange(self) -> tuple[str, str]:
        rng = self._rng
        if self._last == "story" and rng.random() < 0.2:
            return rng.choice(_ANOTHER), story(rng)[1]
        if self._name and rng.random() < 0.2:
            return recall(self._name, rng)
        self._last = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
        return getattr(self, f"_{self._last}")()

    def _topic(self) -> tuple[str, str]:
        topics = all_topics()
        return self._rng.choices(topics, [topic.weight for topic in topics])[0].exchange(self._rng)

    def _fact(self) -> tuple[str, str]:
        return fact(self._rng)

    def _story(self) -> tuple[str, str]:
        return story(self._rng)

    def _introduction(self) -> tuple[str, str]:
        question, answer, self._name = introduction(self._rng)
        return question, answer

    def _recall(self) -> tuple[str, str]:
        return recall(self._name, self._rng)
