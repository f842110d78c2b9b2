"""Topics: the ways to ask a thing, and the answers to it, read from the files in topics/."""

import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .patterns import expand

FOLDER = Path(__file__).parent / "topics"


@dataclass
class Topic:
    """`weight` says how often it comes compared with others."""

    name: str
    weight: float
    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def exchange(self, rng: random.Random) -> tuple[str, str]:
        """A question and its answer."""
        return expand(rng.choice(self.questions), rng), rng.choice(self.answers)


@cache
def all_topics() -> list[Topic]:
    return [topic for path in sorted(FOLDER.glob("*.txt")) for topic in read_topics(path)]


@cache
def read_topics(path: Path) -> list[Topic]:
    return _parse(path.read_text(encoding="utf-8"))


def _parse(text: str) -> list[Topic]:
    """`[name] weight`, then `? pattern` lines, then `! answer` lines; more lines of an answer are indented."""
    topics: list[Topic] = []
    for line in text.splitlines():
        if line.startswith("["):
            name, _, weight = line[1:].partition("] ")
            topics.append(Topic(name, float(weight)))
        elif line.startswith("? "):
            topics[-1].questions.append(line[2:])
        elif line.startswith("!   "):
            topics[-1].answers[-1] += "\n" + line[4:]
        elif line.startswith("! "):
            topics[-1].answers.append(line[2:])
    return topics
