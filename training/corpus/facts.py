"""Simple facts that fit into a tiny model: colours, animals, opposites, days, counting, sums up to ten plus ten."""

import random
from collections.abc import Callable

from .patterns import expand

Exchange = tuple[str, str]

_COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "the sun": "yellow", "a banana": "yellow", "coal": "black",
    "blood": "red", "a lemon": "yellow", "milk": "white", "a tomato": "red", "a frog": "green", "a carrot": "orange",
    "a leaf": "green", "chocolate": "brown", "the sea": "blue", "a polar bear": "white", "a strawberry": "red",
    "an orange": "orange", "a tree": "green", "the night": "black",
}  # fmt: skip
_SOUNDS = {
    "dog": "Woof", "cat": "Meow", "cow": "Moo", "sheep": "Baa", "duck": "Quack", "pig": "Oink", "lion": "Roar",
    "frog": "Croak", "bee": "Buzz", "mouse": "Squeak", "horse": "Neigh", "owl": "Hoo", "hen": "Cluck", "snake": "Hiss",
}  # fmt: skip
_LEGS = {
    "dog": "four", "cat": "four", "cow": "four", "horse": "four", "bird": "two", "duck": "two", "hen": "two",
    "spider": "eight", "ant": "six", "bee": "six", "snake": "no", "fish": "no", "human": "two", "fox": "four",
    "elephant": "four", "fly": "six", "mouse": "four", "owl": "two",
}  # fmt: skip
_OPPOSITES = {
    "hot": "cold", "big": "small", "good": "bad", "up": "down", "left": "right", "day": "night", "black": "white",
    "fast": "slow", "old": "young", "happy": "sad", "long": "short", "open": "closed", "yes": "no", "rich": "poor",
    "hard": "soft", "full": "empty", "high": "low", "light": "dark", "wet": "dry", "early": "late", "in": "out",
}  # fmt: skip
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def fact(rng: random.Random) -> Exchange:
    """A question about a simple fact, and its answer."""
    return rng.choices(list(_KINDS), list(_KINDS.values()))[0](rng)


def _colour(rng: random.Random) -> Exchange:
    thing, colour = rng.choice(list(_COLOURS.items()))
    pattern = f"(What|Which) colou?r (is|has) {thing}?|(What is|What's|Tell me) the colou?r of {thing}?"
    return _ask(pattern, rng), f"{thing.capitalize()} is {colour}."


def _sound(rng: random.Random) -> Exchange:
    animal, sound = rng.choice(list(_SOUNDS.items()))
    pattern = (
        f"What (sound|noise) does (a|the) {animal} make?|What does (a|the) {animal} say?|How does a {animal} sound?"
    )
    return _ask(pattern, rng), f"{sound}! says the {animal}."


def _legs(rng: random.Random) -> Exchange:
    animal, number = rng.choice(list(_LEGS.items()))
    article = "An" if animal[0] in "aeiou" else "A"
    return _ask(
        f"How many legs (does (a|an) {animal} have|has a {animal})?", rng
    ), f"{article} {animal} has {number} legs."


def _opposite(rng: random.Random) -> Exchange:
    pair = list(rng.choice(list(_OPPOSITES.items())))
    rng.shuffle(pair)
    pattern = f"(What is|What's|Tell me) the opposite (of|to) {pair[0]}?|Opposite of {pair[0]}?"
    return _ask(pattern, rng), f"The opposite of {pair[0]} is {pair[1]}."


def _following(rng: random.Random) -> Exchange:
    """Days and months, one after the other and before it."""
    names = rng.choice((_DAYS, _MONTHS))
    index, step, side = rng.randrange(len(names)), *rng.choice(((1, "after"), (-1, "before")))
    kind = "day" if names is _DAYS else "month"
    question = _ask(
        f"(What|Which) {kind} (comes|is) {side} {names[index]}?|What (comes|is) {side} {names[index]}?", rng
    )
    return question, f"{names[(index + step) % len(names)]} comes {side} {names[index]}."


def _lists(rng: random.Random) -> Exchange:
    lists = {
        "(the |all |)days of the week|the weekdays": ", ".join(_DAYS),
        "(the |all |)months of the year|the (twelve |)months": ", ".join(_MONTHS),
        "(the |all |)(four |)seasons": "Spring, summer, autumn, winter",
        "(the |some |three |)colou?rs|some colou?rs": "Red, yellow, green, blue, black, white",
        "(the |)colou?rs of the rainbow": "Red, orange, yellow, green, blue, indigo, violet",
        "(some |three |the |five |)animals": "Fox, bear, owl, rabbit, llama",
        "the (letters of the |)alphabet|the ABC": "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
    }
    names, answer = rng.choice(list(lists.items()))
    name = rng.choice(_top_level(names))
    pattern = (
        f"(Name|List|Tell me|Say|Give me) {name}(| please).|What are {name}?|(Can you|Do you) (say|know|name) {name}?"
    )
    return _ask(pattern, rng), f"{answer}."


def _how_many(rng: random.Random) -> Exchange:
    known = {
        "days (are there |are |)in a week": "A week has seven days.",
        "months (are there |are |)in a year": "A year has twelve months.",
        "days (are there |are |)in a year": "A year has 365 days, and sometimes 366.",
        "hours (are there |are |)in a day": "A day has 24 hours.",
        "minutes (are there |are |)in an hour": "An hour has 60 minutes.",
        "seconds (are there |are |)in a minute": "A minute has 60 seconds.",
        "fingers (are there |are |)on a hand": "A hand has five fingers.",
        "seasons (are there|are in a year)": "There are four seasons.",
        "letters (are there |are |)in the alphabet": "The alphabet has 26 letters.",
    }
    thing, answer = rng.choice(list(known.items()))
    return _ask(f"How many {thing}?", rng), answer


def _count(rng: random.Random) -> Exchange:
    last = rng.choice((3, 5, 10, 10, 20, *range(2, 21)))
    name = _NUMBERS[last] if last <= 10 and rng.random() < 0.4 else str(last)
    pattern = f"(|Please |Can you |Could you )[Cc]ount (from (1|one) |up |)to {name}(.|?|)"
    question = _ask(pattern.replace("[Cc]ount", rng.choice(("Count", "count"))), rng)
    return question, ", ".join(map(str, range(1, last + 1))) + "."


def _sum(rng: random.Random) -> Exchange:
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    left, right = str(a), str(b)
    if rng.random() < 0.25:
        left, right = _NUMBERS[a], _NUMBERS[b]
    plus = rng.choice((" + ", "+", " plus ", " and ", " + "))
    term = f"{left}{plus}{right}"
    before = rng.choice(("What is ", "What's ", "How much is ", "", "", "Calculate ", "Add ", "what does "))
    after = " make?" if before == "what does " else rng.choice(("?", "", " =", "="))
    return f"{before}{term}{after}", f"{a} + {b} = {a + b}"


def _ask(pattern: str, rng: random.Random) -> str:
    """One of the whole questions that | separates outside of brackets."""
    return expand(rng.choice(_top_level(pattern)).replace("colou?r", rng.choice(("colour", "color"))), rng)


def _top_level(pattern: str) -> list[str]:
    parts, depth = [""], 0
    for character in pattern:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


_KINDS: dict[Callable[[random.Random], Exchange], int] = {
    _colour: 3, _sound: 2, _legs: 2, _opposite: 2, _following: 2, _lists: 3, _how_many: 2, _count: 2, _sum: 20,
}  # fmt: skip
