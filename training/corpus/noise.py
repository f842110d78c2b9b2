"""How people really type: without capitals and question marks, with a please, and with slips of the fingers."""

import random

_BEFORE = (
    "hi, ", "Hi! ", "hey, ", "hello, ", "Hello! ", "ok, ", "ok ", "so ", "and ", "well, ", "please ", "Please, ",
    "now ", "tell me, ", "Tell me: ", "quick question: ", "Question: ", "one more question: ", "but ", "So, ",
    "Thanks! ", "thank you. ", "Cool. ", "I see. ", "hm, ", "just wondering, ", "great, ", "I want to know: ",
    "sorry, ", "edgellama, ",
)  # fmt: skip
_AFTER = (
    " please", ", please", " please?", " thanks", ", thank you", " now", " then", ", friend", " :)", "!", "??",
    " ...",
)  # fmt: skip


def typed(text: str, rng: random.Random) -> str:
    """The text as somebody might type it."""
    if len(text.split()) > 2:
        if rng.random() < 0.12:
            text = rng.choice(_BEFORE) + text[0].lower() + text[1:]
        if rng.random() < 0.06:
            text = text.rstrip("?.!") + rng.choice(_AFTER)
    if rng.random() < 0.45:
        text = text.lower()
    elif rng.random() < 0.02:
        text = text.upper()
    if rng.random() < 0.4:
        text = text.rstrip("?.!") or text
    if rng.random() < 0.2:
        text = text.replace("'", "")
    return _with_slip(text, rng) if rng.random() < 0.12 else text


def _with_slip(text: str, rng: random.Random) -> str:
    """One letter is missing, doubled, or swapped with the next."""
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if len(places) < 4:
        return text
    i = rng.choice(places)
    here, following, rest = text[i], text[i + 1], text[i + 2 :]
    return text[:i] + rng.choice((following, here + here + following, following + here)) + rest
