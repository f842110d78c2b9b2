"""Tiny stories from a grammar: somebody small wants something, meets somebody, and goes home content."""

import random

from .patterns import expand
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
_ASK = (
    "(Tell|Read|Write|Give|Make up|Invent|Can you tell|Could you tell|Please tell)(| me| us) (a|another|a short|one|a little|some|a nice) (story|tale|fairy tale)(| please)(.|?|!)",
    "(I want|I would like|I'd like|Let's hear|I want to hear|Do you know|Do you have) (a|another|some|a good) (story|tale|bedtime story)(| please).",
    "(story|a story|Once upon a time|story time|Another story|one more story|tell me a bedtime story|tell a story|stories)(|.|!| please)",
    "(Can|Do) you (tell|know|write|make up)(| me| any| some) (a story|stories|tales)(|?| please)",
)
_ASK_ABOUT = (
    "(Tell|Write|Read|Give|Can you tell|Make up|Please tell)(| me| us) (a|another|a short|a little|one) (story|tale) (about|of|with) (a|an|the|a {kind}) {animal}(| please)(.|?|!)",
    "(I want|I'd like|Let's hear|Do you know|I want to hear) (a|another) (story|tale) (about|of|with) (a|an|the) {animal}(| please).",
    "(A |a |)(story|tale) (about|of|with) (a|an|the|two|my) {animal}(| please)?",
    "(Once upon a time there was|Tell me something about|Tell me about|Say something about|What do you know about) (a|an|the) {animal}(|.)",
)
_ASK_NAMED = (
    "(Tell|Write|Give|Can you tell)(| me| us) (a|another|a short) story about (a|an|the) {animal} (named|called) {name}(| please)(.|?|!)",
    "(I want|I'd like) a story about (a|an|the) {animal} (named|called) {name}(| please).",
)


def story(rng: random.Random) -> tuple[str, str]:
    """The wish for a story, and the story."""
    animal, name, kind = rng.choice(ANIMALS), rng.choice(NAMES), rng.choice(_KINDS)
    ask = rng.choices((_ASK, _ASK_ABOUT, _ASK_NAMED), (4, 5, 2))[0]
    question = rng.choice(ask).replace("{animal}", animal).replace("{name}", name).replace("{kind}", kind)
    return expand(question, rng), _told(animal, name, kind, rng)


def _told(animal: str, name: str, kind: str, rng: random.Random) -> str:
    treasure, helper = rng.choice(_TREASURES), rng.choice(_HELPERS)
    thing, friend = treasure.split(" ", 1)[1], helper.split(" ", 1)[1]
    sentences = (
        f"Once upon a time there was a {kind} {animal} named {name}, who lived in {rng.choice(_PLACES)}.",
        f"One day {name} found {treasure} in the grass.",
        rng.choice((f'"Whose {thing} is this?" asked {name}.', f'"I must find out whose {thing} this is," said {name}.')),
        f"So the {animal} went to look for the owner. {rng.choice(_FEARS).capitalize()}, but {name} was not afraid.",
        rng.choice((f"Behind a tree sat {helper} and cried.", f"At last {name} met {helper}, who looked sad.")),
        f'"I have lost my {thing}," said the {friend}.',
        rng.choice((f'"Here it is!" said {name}.', f"{name} gave it back and smiled.")),
        rng.choice((f"The {friend} was so happy that it danced.", f"The {friend} laughed and shared its cake with {name}.")),
        rng.choice(_ENDS).replace("{name}", name),
    )
    return " ".join(sentences)
