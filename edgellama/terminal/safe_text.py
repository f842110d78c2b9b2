"""Text from a model or a file, made safe to show: a terminal must obey the program only.

Control characters move the cursor, set the window's title or answer in the user's name (ECMA-48, and xterm's control
sequences). They are shown as pictures of themselves instead.
"""

_PICTURES = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}  # Unicode's "Control Pictures"
_REPLACED = dict.fromkeys(range(0x80, 0xA0), 0xFFFD)  # C1: some terminals obey these without an escape character
_REVERSED = dict.fromkeys((0x202D, 0x202E), 0xFFFD)  # overrides of the writing direction: text reads as what it is not
_KEPT = {ord("\n"): "\n", ord("\t"): "\t", ord("\r"): None}
_TABLE = _PICTURES | _REPLACED | _REVERSED | _KEPT


def safe(text: str) -> str:
    """The text with every control character but newline and tab made visible, and without carriage returns."""
    return text.translate(_TABLE)


def safe_line(text: str, most_characters: int = 200) -> str:
    """The text safe and on one line, cut with an ellipsis."""
    line = " ".join(safe(text[: 2 * most_characters]).split())
    return line if len(line) <= most_characters else line[: most_characters - 1] + "…"
