"""People say their name, and may ask for it later in the chat."""

import random

from .patterns import expand
from .words import NAMES, word

_SAY = (
    "(My name is|I am|I'm|Call me|I am called|You can call me|The name is|my name's|This is) {name}(.|!|)",
    "(Hi, I am|Hello, I'm|Hello, my name is|Hi, my name is) {name}(.|!|)",
)
_ASK = (
    "(What is|What's|Do you know|Do you remember|Can you say|Tell me|Say|Did you forget) my name(?|)",
    "(What am I called|Who am I|Do you know who I am|What did I say my name was|Do you remember me)?",
)


def introduction(rng: random.Random) -> tuple[str, str, str]:
    """What somebody says who tells a name, the answer, and the name."""
    name = rng.choice(NAMES) if rng.random() < 0.6 else word("invented", rng).capitalize()
    return expand(rng.choice(_SAY), rng, name=name), f"Nice to meet you, {name}!", name


def recall(name: str | None, rng: random.Random) -> tuple[str, str]:
    """The question for the name, and the answer; None was not told."""
    answer = f"Your name is {name}." if name else "You have not told me your name."
    return expand(rng.choice(_ASK), rng), answer
