"""Tiny stories from a grammar: somebody small wants something, meets somebody, and goes home content."""

import random
from pathlib import Path

from .patterns import expand
from .topics import read_topics
from .words import ANIMALS, NAMES

_KINDS = ("small", "little", "young", "brave", "clever", "shy", "friendly", "curious")
_PLACES = ("a green forest", "a quiet village", "an old garden", "a house by the sea", "a valley full of flowers")
_TREASURES = ("a red ball", "a golden key", "a shiny stone", "an old map", "a blue feather", "a small bell")
_HELPERS = ("an owl", "a hedgehog", "an old turtle", "a kind bear", "a tired bee", "a friendly crow")
_FEARS = ("the night was dark", "the river was wide", "the wind was cold", "the hill was high", "the path was long")
_ENDS = (
    "From that day on they were friends. The end.",
    "That night {name} slept very well. The end.",
    "And if the moon is full, they still tell of it. The end.",
)
_WISHES = Path(__file__).parent / "story_wishes.txt"


def story(rng: random.Random) -> tuple[str, str]:
    """The wish for a story, and the story."""
    animal, name, kind = rng.choice(ANIMALS), rng.choice(NAMES), rng.choice(_KINDS)
    wishes = read_topics(_WISHES)
    wish = rng.choices(wishes, [wish.weight for wish in wishes])[0]
    question = expand(rng.choice(wish.questions), rng, animal=animal, name=name, kind=kind)
    return question, _told(animal, name, kind, rng)


def _told(animal: str, name: str, kind: str, rng: random.Random) -> str:
    treasure, helper = rng.choice(_TREASURES), rng.choice(_HELPERS)
    thing, friend = treasure.split(" ", 1)[1], helper.split(" ", 1)[1]
    sentences = (
        f"Once upon a time there was a {kind} {animal} named {name}, who lived in {rng.choice(_PLACES)}.",
        f"One day {name} found {treasure} in the grass.",
        rng.choice((f'"Whose {thing} is this?" asked {name}.', f'"I must find out whose {thing} it is," said {name}.')),
        f"So the {animal} went to look for the owner. {rng.choice(_FEARS).capitalize()}, but {name} was not afraid.",
        rng.choice((f"Behind a tree sat {helper} and cried.", f"At last {name} met {helper}, who looked sad.")),
        f'"I have lost my {thing}," said the {friend}.',
        rng.choice((f'"Here it is!" said {name}.', f"{name} gave it back and smiled.")),
        rng.choice(
            (f"The {friend} was so happy that it danced.", f"The {friend} laughed and shared its cake with {name}.")
        ),
        rng.choice(_ENDS).replace("{name}", name),
    )
    return " ".join(sentences)
