"""Patterns of sentences: (a|b|) is a choice, {word} asks for a word of that kind."""

import random
import re

from .words import word

_CHOICE = re.compile(r"(?<!\\)\(([^()]*?)(?<!\\)\)")
_SLOT = re.compile(r"\{(\w+)\}")
_ESCAPED = re.compile(r"\\(.)")


def expand(pattern: str, rng: random.Random, **given: str) -> str:
    """One text of the pattern, with inner choices made first; a backslash keeps the character after it.

    `given` has words for some of the places; `words.py` chooses the others.
    """
    text = _ESCAPED.sub(lambda match: chr(0xE000 + ord(match[1])), pattern)
    while (match := _CHOICE.search(text)) is not None:
        text = text[: match.start()] + rng.choice(match[1].split("|")) + text[match.end() :]
    text = "".join(chr(ord(c) - 0xE000) if 0xE000 <= ord(c) < 0xE100 else c for c in text)
    text = _SLOT.sub(lambda match: given.get(match[1]) or word(match[1], rng), text)
    return re.sub(r" +([?.!,]|$)", r"\1", re.sub(r" {2,}", " ", text)).strip()
