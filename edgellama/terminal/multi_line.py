'''When Enter sends what is typed and when it begins a new line: a block between """ and """, or a backslash.'''

BACKSLASH = "\\"
_QUOTES = '"""'


def is_complete(text: str) -> bool:
    """Whether Enter at the end of the text sends it."""
    if text.lstrip().startswith(_QUOTES):
        inner = text.strip()[len(_QUOTES) :]
        return inner.endswith(_QUOTES)
    return not text.endswith(BACKSLASH)


def message(text: str) -> str:
    """What is sent: without the quotes of a block, and without empty lines around it."""
    stripped = text.strip()
    if stripped.startswith(_QUOTES) and is_complete(stripped):
        return stripped[len(_QUOTES) : -len(_QUOTES)].strip("\n")
    return stripped
