"""Words for the places that patterns leave open, and words that mean nothing."""

import random
import re
from pathlib import Path


def _read(path: Path) -> dict[str, list[str]]:
    """Words by the heading in brackets that they stand under, with commas between them."""
    parts = re.split(r"^\[(\w+)\]$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {name: re.split(r",\s+", text.strip()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


_WORDS = _read(Path(__file__).parent / "words.txt")
NAMES, ANIMALS = _WORDS["names"], _WORDS["animals"]


def word(kind: str, rng: random.Random) -> str:
    """A word of the kind that a pattern names in braces."""
    return _KINDS[kind](rng)


def _thing(rng: random.Random) -> str:
    """A thing that the model knows nothing of; often a word that does not exist, so that no list can be learned."""
    kind = rng.random()
    if kind < 0.4:
        return _invented(rng)
    text = rng.choice(_WORDS["things"])
    return text + "s" if kind > 0.85 and text.islower() and text[-1] not in "sy" else text


def _invented(rng: random.Random) -> str:
    text = "".join(rng.choice(_WORDS["syllables"]) for _ in range(rng.randint(2, 4)))
    return text.capitalize() if rng.random() < 0.3 else text


def _noise(rng: random.Random) -> str:
    """Letters as they come when somebody drums on the keys."""
    letters = rng.choice(
        ("abcdefghijklmnopqrstuvwxyz", "asdfghjkl", "qwertyuiop", "bcdfghjklmnpqrstvwxz", "0123456789")
    )
    return "".join(rng.choice(letters) for _ in range(rng.randint(3, 10)))


def _number(rng: random.Random) -> str:
    return str(rng.choice((rng.randint(11, 99), rng.randint(100, 999), rng.randint(1000, 999999))))


def _person(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"{rng.choice(NAMES)} {_invented(rng).capitalize()}"
    return rng.choice(_WORDS["people"])


_KINDS = {
    "thing": _thing,
    "who": _person,
    "invented": _invented,
    "big": _number,
    "noise": _noise,
    "animal": lambda rng: rng.choice(ANIMALS),
    "name": lambda rng: rng.choice(NAMES),
}
