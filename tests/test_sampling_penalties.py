"""Biases, the penalties for recent tokens, and DRY, against their definitions written out in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_definitions import random_logits

from edgellama.errors import EdgellamaError
from edgellama.sampling import SampleOptions, Sampler
from edgellama.sampling.dry import Dry
from edgellama.sampling.penalties import RecentTokens, bias


class Letters:
    """A tokenizer whose tokens stand for these texts."""

    def __init__(self, *pieces: str):
        self.pieces = [piece.encode() for piece in pieces]

    def piece_bytes(self, token_id: int) -> bytes:
        return self.pieces[token_id]


LETTERS = Letters("a", "b", "c", "x:", "\n", " on", "e ", "é")


def changed(logits, change) -> list[float]:
    """Logits after a change, or as they were."""
    logits = np.array(logits, np.float32)
    if change is not None:
        ids, amounts, rule = change
        logits[ids] = list(map(rule, logits[ids].tolist(), amounts))
    return logits.tolist()


def after(memory, text):
    for token_id in text:
        memory.accept(token_id)
    return memory.change()


def test_bias():
    options = SampleOptions(logit_bias={2: -1.5, 0: 100, 1: float("-inf")})
    assert changed([1, 2, 3, 4], bias(options)) == [101, -np.inf, 1.5, 4]
    assert bias(SampleOptions()) is None


def test_repeat_penalty_once_however_often():
    memory = RecentTokens(SampleOptions(repeat_penalty=2.0))
    assert memory.change() is None
    assert changed([2.0, -2.0, 0.0, 4.0, 5.0], after(memory, [0, 1, 2, 0])) == [1.0, -4.0, 0.0, 4.0, 5.0]


def test_frequency_and_presence_penalty():
    memory = RecentTokens(SampleOptions(frequency_penalty=0.5, presence_penalty=0.25))
    assert changed([1.0, 1.0, 1.0], after(memory, [0, 0, 2, 0])) == [-0.75, 1.0, 0.25]


def test_all_three_penalties_and_the_window():
    """The repetition first, then what is taken off; only the last three tokens count."""
    options = SampleOptions(repeat_penalty=2.0, frequency_penalty=0.5, presence_penalty=0.25, repeat_last_n=3)
    memory = RecentTokens(options)
    assert changed([8.0, 8.0, -8.0], after(memory, [0, 0, 1, 2, 2])) == [8.0, 3.25, -17.25]


def test_when_penalties_are_on():
    assert not RecentTokens.is_on(SampleOptions())
    assert not RecentTokens.is_on(SampleOptions(repeat_penalty=1.3, repeat_last_n=0))
    for name in ("repeat_penalty", "frequency_penalty", "presence_penalty"):
        assert RecentTokens.is_on(SampleOptions(**{name: 0.5}))
    assert not Dry.is_on(SampleOptions(dry_multiplier=1.0, dry_penalty_last_n=0))


def dry_by_definition(text: list[int], tokenizer: Letters, options: SampleOptions) -> dict[int, float]:
    """For every token: the longest run before one of its places that is also the end of the text, compared token by
    token; the end of the text begins after the last breaker, found in the letters."""
    breakers = [breaker.encode() for breaker in options.dry_sequence_breakers]
    window = text[-options.dry_penalty_last_n :]
    n_unbroken = len(window)
    for n in range(len(window)):  # the shortest end of the text from whose first token on a breaker ends
        letters, start = b"", None
        for i, token_id in enumerate(text):
            start = len(letters) if i == len(text) - 1 - n else start
            letters += tokenizer.pieces[token_id]
        ends = [at + len(b) for b in breakers for at in range(len(letters)) if letters.startswith(b, at)]
        if any(end > start for end in ends):
            n_unbroken = n
            break
    penalties: dict[int, float] = {}
    for place in range(1, len(window)):
        length = 0
        while length < min(place, n_unbroken) and window[place - 1 - length] == window[len(window) - 1 - length]:
            length += 1
        token_id = window[place]
        if length >= options.dry_allowed_length and not any(b in tokenizer.pieces[token_id] for b in breakers):
            penalty = options.dry_multiplier * options.dry_base ** (length - options.dry_allowed_length)
            penalties[token_id] = max(penalties.get(token_id, 0), penalty)
    return penalties


def dry_penalties(text: list[int], tokenizer: Letters, options: SampleOptions) -> dict[int, float]:
    change = after(Dry(options, tokenizer), text)
    return {} if change is None else dict(zip(change[0], change[1], strict=True))


def test_dry_by_hand():
    """a b c c b c b a b c: after `a b c` came c (a run of 3), after `c` came b, after `b c` came b."""
    text, options = [0, 1, 2, 2, 1, 2, 1, 0, 1, 2], SampleOptions(dry_multiplier=0.5, dry_base=2.0)
    assert dry_penalties(text, LETTERS, options) == {2: 0.5 * 2, 1: 0.5}
    longer = SampleOptions(dry_multiplier=0.5, dry_base=2.0, dry_allowed_length=3)
    assert dry_penalties(text, LETTERS, longer) == {2: 0.5}
    assert dry_penalties(text[-3:], LETTERS, options) == {}


def test_dry_and_sequence_breakers():
    options = SampleOptions(dry_multiplier=1.0, dry_base=2.0, dry_allowed_length=1)
    # "a b x: a b": the run "a b" may go back to the breaker and would be continued by "x:", which has one.
    assert dry_penalties([0, 1, 3, 0, 1], LETTERS, options) == {}
    # "a b c : a b" without breakers.
    unbroken = SampleOptions(dry_multiplier=1.0, dry_base=2.0, dry_allowed_length=1, dry_sequence_breakers=())
    assert dry_penalties([0, 1, 3, 0, 1], LETTERS, unbroken) == {3: 2.0}
    # A run goes no further back than the breaker: "\n b c | a \n b": the run is "b", not "\n b".
    assert dry_penalties([4, 1, 2, 0, 4, 1], LETTERS, options) == {2: 1.0}
    assert dry_penalties([4, 1, 2, 0, 4, 1], LETTERS, unbroken) == {2: 2.0}


def test_dry_breakers_across_tokens():
    """ "e on" is a breaker, and ends in the token " on", wherever it begins."""
    options = SampleOptions(dry_multiplier=1.0, dry_allowed_length=1, dry_sequence_breakers=["e  on"])
    assert dry_penalties([6, 5, 0, 1, 6, 5, 0], LETTERS, options) == {1: 1.0}
    assert dry_penalties([0, 5, 0, 1, 0, 5, 0], LETTERS, options)[1] == pytest.approx(1.75**2)
    # A short one beside it ends where it ends, and not once more in the token after it.
    both = SampleOptions(dry_multiplier=1.0, dry_allowed_length=1, dry_sequence_breakers=["e  on", "a"])
    assert dry_penalties([2, 1, 7, 0, 2, 1], LETTERS, both) == {7: pytest.approx(1.75)}


def test_dry_of_very_long_runs_is_finite():
    for base in (1.0, 1.0000001, 1.75, 100.0):
        options = SampleOptions(dry_multiplier=100.0, dry_base=base, dry_penalty_last_n=3000)
        (penalty,) = dry_penalties([0] * 3000, LETTERS, options).values()
        assert (100 <= penalty < 101) if base < 1.01 else (1e29 < penalty < 1e33)


_text = st.lists(st.integers(0, 7), max_size=60)
_breakers = st.lists(st.sampled_from(["\n", ":", "a", "e ", "e  on", "é\n", "bc", "ab"]), max_size=3)


@settings(max_examples=200, deadline=None)
@given(_text, _breakers, st.integers(1, 4), st.integers(1, 70))
def test_dry(text, breakers, allowed_length, last_n):
    options = SampleOptions(
        dry_multiplier=0.8, dry_allowed_length=allowed_length, dry_penalty_last_n=last_n, dry_sequence_breakers=breakers
    )
    wanted = dry_by_definition(text, LETTERS, options)
    assert dry_penalties(text, LETTERS, options) == pytest.approx(wanted)


def test_all_changes_in_a_sampler():
    """Bias, penalty, DRY: greedily, with each taking the lead from the likeliest token."""
    logits = np.array([5.0, 4.0, 3.5, 1.0, 0.0, 0.0, 0.0, 0.0], np.float32)

    def choose(text=(), **options) -> int:
        sampler = Sampler(SampleOptions(temperature=0, **options), 8, tokenizer=LETTERS)
        for token_id in text:
            sampler.accept(token_id)
        return sampler.sample(logits)

    assert choose() == 0
    assert choose(logit_bias={0: float("-inf")}) == 1
    assert choose([0], repeat_penalty=1.3) == 1
    assert choose([0, 1, 1], repeat_penalty=1.3, frequency_penalty=0.5) == 2
    assert choose([1, 2, 0, 1, 2], dry_multiplier=2.0) == 1
    assert choose([1, 2, 0, 1, 2], dry_multiplier=2.0, logit_bias={1: -1.0}) == 2
    # The bias comes first: a penalty divides what it has made of the logit.
    assert choose([0], repeat_penalty=2.0, logit_bias={0: 3.5}) == 0


def test_window_of_the_penalty():
    logits = np.array([2.0, -2.0, 0.0, 4.0], np.float32)
    sampler = Sampler(SampleOptions(temperature=0, repeat_penalty=3.0, repeat_last_n=2), 4)
    drawn = []
    for _ in range(4):
        drawn.append(sampler.sample(logits))
        sampler.accept(drawn[-1])
    # 4 becomes 4/3 and 2 wins; then 4/3 beats 2/3, and stays in the window of two for good.
    assert drawn == [3, 0, 3, 3]
    sampler.accept(0)
    sampler.accept(1)
    assert sampler.sample(logits) == 3


def test_logits_stay_as_they_are():
    logits = random_logits(100)
    logits[3] = np.nan
    logits.flags.writeable = False
    options = SampleOptions(repeat_penalty=1.5, logit_bias={7: 1.0}, dry_multiplier=1.0, dry_sequence_breakers=())
    sampler = Sampler(options, 100)
    sampler.accept(4)
    assert sampler.sample(logits) != 3


def test_breakers_need_a_tokenizer():
    with pytest.raises(EdgellamaError, match="dry_sequence_breakers need a tokenizer"):
        Sampler(SampleOptions(dry_multiplier=1.0), 10)
    Sampler(SampleOptions(dry_multiplier=1.0, dry_sequence_breakers=()), 10)
    Sampler(SampleOptions(dry_multiplier=1.0, mirostat=2), 10)
