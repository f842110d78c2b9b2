"""Stop strings in a text that comes in pieces, against the text cut at the first of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellama.errors import EdgellamaError
from edgellama.stop_strings import StopStrings

SHORT = st.text("ab\n", min_size=1, max_size=4)


def shown(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """All that is shown of a text that nobody ends at a stop string, and whether one came."""
    strings = StopStrings(stops)
    text = "".join(map(strings.push, pieces))
    return text + strings.finish(""), strings.is_stopped


@given(st.lists(st.text("ab\nc", max_size=5), max_size=12), st.lists(SHORT, max_size=3))
def test_the_text_ends_at_the_first_stop_string(pieces, stops):
    text = ""
    for character in "".join(pieces):  # the first that is complete ends it
        text += character
        ends = [len(text) - len(stop) for stop in stops if text.endswith(stop)]
        if ends:
            assert shown(list("".join(pieces)), stops) == (text[: min(ends)], True)
            return
    assert shown(pieces, stops) == (text, False)


@given(st.lists(st.text("ab\nc", max_size=5), max_size=12), st.lists(SHORT, max_size=3))
def test_nothing_of_a_stop_string_is_shown_early(pieces, stops):
    text, is_stopped = shown(pieces, stops)
    assert "".join(pieces).startswith(text)
    assert not any(stop in text for stop in stops)
    assert is_stopped == any(stop in "".join(pieces) for stop in stops)


def test_only_what_may_be_a_beginning_is_held_back():
    strings = StopStrings(["</s>"])
    assert [strings.push(piece) for piece in ("a<", "b</", "s", "x")] == ["a", "<b", "", "</sx"]


@pytest.mark.parametrize("wrong", [[""], [3], [None], [b"x"]])
def test_what_is_no_stop_string(wrong):
    with pytest.raises(EdgellamaError, match="a stop string must be"):
        StopStrings(wrong)
