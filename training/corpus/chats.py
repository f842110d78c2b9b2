"""Chats: exchanges of all kinds in a row, sometimes with a system message in front."""

import random
from collections.abc import Iterator

from .facts import fact
from .names import introduction, recall
from .noise import typed
from .stories import story
from .topics import read_topics

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
_SHARES = {"topics": 78, "fact": 9, "story": 8, "introduction": 3, "recall": 2}


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
    n_turns = min(1 + int(rng.expovariate(0.45)), 12)
    name = None
    for _ in range(n_turns):
        question, answer, name = _exchange(name, rng)
        if plain(question) in left_out:
            continue
        messages.append({"role": "user", "content": typed(question, rng)})
        messages.append({"role": "assistant", "content": answer})
    return messages


def _exchange(name: str | None, rng: random.Random) -> tuple[str, str, str | None]:
    kind = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
    if kind == "introduction":
        return introduction(rng)
    if kind == "recall" or (name is not None and rng.random() < 0.2):
        return *recall(name, rng), name
    if kind == "topics":
        topics = read_topics()
        topic = rng.choices(topics, [topic.weight for topic in topics])[0]
        return *topic.exchange(rng), name
    return *(fact(rng) if kind == "fact" else story(rng)), name
