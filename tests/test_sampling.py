"""The whole sampler: greedy, seeds, masks, odd logits, distributions, Mirostat, log-probabilities, and its errors."""

import dataclasses
import math

import numpy as np
import pytest
import sampling_definitions as definitions
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_definitions import TOLERANCE, chi_square_limit, falling, kernels, odd_logits, random_logits, softmax

from edgellama.errors import EdgellamaError
from edgellama.sampling import KernelScan, SampleOptions, Sampler, logprob, logprobs
from edgellama.sampling.scan import NUMPY_SCAN

ALL_OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(scope="module", params=["numpy", "kernels"])
def scan(request):
    return NUMPY_SCAN if request.param == "numpy" else KernelScan(kernels())


def mask_of(ids, n: int) -> np.ndarray:
    """The bitmask in which exactly these ids are allowed."""
    words = [0] * -(-n // 32)
    for i in ids:
        words[i // 32] |= 1 << i % 32
    return np.array(words, np.uint32)


def test_greedy(scan):
    def choose(values, **options) -> int:
        return Sampler(SampleOptions(temperature=0, **options), len(values), scan).sample(np.array(values, np.float32))

    assert choose([1, 3, 2, 3, 0]) == 1
    assert choose([NAN, -5, NAN, -4, -6]) == 3
    assert choose([0, 1, INFINITY, 5, INFINITY]) == 2
    assert choose([NAN] * 5) == 0
    # Whatever drops tokens has no say, and Mirostat neither.
    assert choose([1, 3, 2, 3, 0], xtc_probability=1.0, typical_p=0.1, top_n_sigma=0.1) == 1
    assert choose([1, 3, 2, 3, 0], mirostat=2, dynamic_temperature_range=1.0) == 1


def test_dynamic_temperature_can_be_zero(scan):
    """From 0 to 1: where one of two tokens is certain the entropy, and with it the temperature, is none."""
    options = SampleOptions(temperature=0.5, dynamic_temperature_range=0.5, seed=1, **ALL_OFF)
    sampler = Sampler(options, 2, scan)
    assert {sampler.sample(np.array([0, 1000], np.float32)) for _ in range(20)} == {1}
    assert {sampler.sample(np.zeros(2, np.float32)) for _ in range(50)} == {0, 1}


def pipeline_by_definition(logits: np.ndarray, options: SampleOptions) -> np.ndarray:
    """Probabilities of a draw, from the definitions of the steps one after the other."""

    def keep(ids) -> None:
        nonlocal logits
        logits = np.where(np.isin(np.arange(len(logits)), sorted(ids)), logits, -np.inf)

    if options.top_n_sigma > 0:
        keep(definitions.top_n_sigma(logits, options.top_n_sigma))
    if options.top_k:
        keep(definitions.top_k(logits, options.top_k))
    if options.typical_p < 1:
        order, probabilities = [i for _, i in definitions.typical_order(logits)], softmax(logits)
        keep(order[: int(np.searchsorted(np.cumsum(probabilities[order]), options.typical_p, "right")) + 1])
    if options.top_p < 1:
        order, probabilities = falling(logits), softmax(logits)
        keep(order[: int(np.searchsorted(np.cumsum(probabilities[order]), options.top_p)) + 1])
    if options.min_p > 0:
        keep(definitions.min_p(logits, options.min_p))
    if options.xtc_probability == 1:
        keep(definitions.xtc(logits, options.xtc_threshold))
    spread, exponent = options.dynamic_temperature_range, options.dynamic_temperature_exponent
    return softmax(logits / definitions.dynamic_temperature(logits, options.temperature, spread, exponent))


CHAINS = (
    {"top_k": 3, "top_p": 0.9},
    {"min_p": 0.2, "temperature": 2.0},
    {"top_p": 0.8, "temperature": 0.5},
    {"typical_p": 0.7},
    {"top_n_sigma": 1.0, "temperature": 3.0},
    {"xtc_probability": 1.0, "xtc_threshold": 0.1},
    {"dynamic_temperature_range": 0.7, "dynamic_temperature_exponent": 2.0},
    {"top_k": 9, "typical_p": 0.95, "top_p": 0.95, "min_p": 0.02, "xtc_probability": 1.0, "temperature": 1.5},
    {"temperature": 1.0},
)


@pytest.mark.parametrize("chain", CHAINS, ids=str)
@pytest.mark.parametrize("n", (12, 2000))
def test_draws_have_the_distribution_of_the_definitions(chain, n):
    """Chi-square over the tokens that can be expected at least five times; the others are one class."""
    logits, n_draws = random_logits(n, 3, 0.8 if n == 12 else 2.0), 8000 if n == 12 else 4000
    options = SampleOptions(**{"seed": 11, "temperature": 1.0, **ALL_OFF, **chain})
    sampler = Sampler(options, n, KernelScan(kernels()))
    expected = n_draws * pipeline_by_definition(logits.astype(np.float64), options)
    counts = np.bincount([sampler.sample(logits) for _ in range(n_draws)], minlength=n)
    assert not counts[expected == 0].any()
    large = expected >= 5
    classes = [*zip(counts[large], expected[large], strict=True), (counts[~large].sum(), expected[~large].sum())]
    statistic = sum((count - wanted) ** 2 / wanted for count, wanted in classes if wanted >= 5)
    degrees = sum(wanted >= 5 for _, wanted in classes) - 1
    assert degrees > 0 and statistic < chi_square_limit(degrees)


def test_draws_from_a_whole_vocabulary_reach_every_block():
    """Equal logits: every block of 512, the short last one too, gets its share."""
    n, n_draws = 5000, 4000
    sampler = Sampler(SampleOptions(seed=3, **ALL_OFF), n, KernelScan(kernels()))
    logits = np.zeros(n, np.float32)
    blocks = np.bincount([sampler.sample(logits) // 512 for _ in range(n_draws)])
    expected = n_draws * np.array([*[512] * 9, 392]) / n
    assert ((blocks - expected) ** 2 / expected).sum() < chi_square_limit(9)


SEEDED = [{}, ALL_OFF, {"top_k": 0}, {"repeat_penalty": 1.3}, {"mirostat": 2}, {"xtc_probability": 0.5}]


@pytest.mark.parametrize("options", SEEDED, ids=str)
def test_seed_decides(options, scan):
    def sampler(seed: int | None) -> Sampler:
        return Sampler(SampleOptions(**{"temperature": 2.0, "seed": seed, **options}), 1000, scan)

    def draw(sampler: Sampler) -> list[int]:
        ids = []
        for step in range(40):
            ids.append(sampler.sample(random_logits(1000, step)))
            sampler.accept(ids[-1])
        return ids

    first = sampler(7)
    drawn = draw(first)
    assert drawn == draw(sampler(7))
    assert drawn != draw(sampler(8))
    assert draw(sampler(None)) != draw(sampler(None))
    assert draw(first) != drawn
    first.reset()
    assert draw(first) == drawn


def test_fresh_seed_can_be_used_again():
    first = Sampler(SampleOptions(temperature=5.0), 1000)
    second = Sampler(dataclasses.replace(first.options, seed=first.seed), 1000)
    logits = random_logits(1000)
    assert [first.sample(logits) for _ in range(20)] == [second.sample(logits) for _ in range(20)]


def test_odd_logits(scan):
    for options in ({}, ALL_OFF, {"top_k": 0}, {"top_k": 2, "temperature": 1e-6}, {"temperature": 5e-324}):
        for more in ({}, {"typical_p": 0.5}, {"top_n_sigma": 1.0}, {"mirostat": 2}, {"dynamic_temperature_range": 0.5}):
            sampler = Sampler(SampleOptions(**{"seed": 1, **options, **more}), 4, scan)
            assert sampler.sample(np.array([NAN, -INFINITY, 1, -INFINITY], np.float32)) == 2
            assert sampler.sample(np.array([0, INFINITY, 1, NAN], np.float32)) == 1
            assert sampler.sample(np.array([0, 3e38, -3e38, 0], np.float32)) == 1
            assert 0 <= sampler.sample(np.full(4, -INFINITY, np.float32)) < 4
            assert 0 <= sampler.sample(np.full(4, NAN, np.float32)) < 4


def test_other_layouts_of_logits(scan):
    logits = np.zeros(40, np.float64)
    logits[31] = 50.0
    sampler = Sampler(SampleOptions(seed=1), 20, scan)
    assert sampler.sample(logits[1::2]) == 15


@pytest.mark.parametrize("n", (1, 31, 100, 20_000))
@pytest.mark.parametrize("options", [{}, ALL_OFF, {"temperature": 0}, {"mirostat": 2}, {"top_k": 0}], ids=str)
def test_only_allowed_tokens(n, options, scan):
    """Also where allowed tokens are the least likely ones, have a bias, or have no finite logit at all."""
    random = np.random.default_rng(n)
    sampler = Sampler(SampleOptions(seed=1, logit_bias={0: 5.0}, **options), n, scan)
    for logits in (random_logits(n, n), odd_logits(n, n), np.full(n, -INFINITY, np.float32), -np.arange(n) * 1.0):
        for share in (0.0, 0.01, 0.9):
            ids = {n - 1, *np.flatnonzero(random.random(n) < share).tolist()}
            mask = mask_of(ids, n)
            assert {sampler.sample(logits, mask) for _ in range(10)} <= ids


def test_all_allowed_is_as_none():
    mask = np.full(-(-5000 // 32), 2**32 - 1, np.uint32)
    one, other = (Sampler(SampleOptions(seed=5), 5000, KernelScan(kernels())) for _ in range(2))
    for step in range(30):
        logits = random_logits(5000, step)
        assert one.sample(logits) == other.sample(logits, mask)


def test_bans(scan):
    """A banned token is not chosen even where all logits are minus infinity; where all are banned that is said."""
    sampler = Sampler(SampleOptions(seed=1, logit_bias={1: -INFINITY, 2: -INFINITY}), 3, scan)
    for logits in ([0, 9, 9], [-INFINITY] * 3, [NAN] * 3, [0, INFINITY, 0]):
        assert {sampler.sample(np.array(logits, np.float32)) for _ in range(10)} == {0}
    with pytest.raises(EdgellamaError, match="no token can be chosen"):
        sampler.sample(np.zeros(3, np.float32), mask_of({1, 2}, 3))
    with pytest.raises(EdgellamaError, match="no token can be chosen"):
        sampler.sample(np.zeros(3, np.float32), mask_of((), 3))


_value = st.one_of(st.floats(-20, 20, width=32), st.sampled_from([NAN, INFINITY, -INFINITY, 0.0, 3e38, -3e38]))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(_value, min_size=1, max_size=70),
    st.dictionaries(st.integers(0, 4), st.sampled_from([-INFINITY, -3.0, 100.0, 1e30]), max_size=3),
    st.fixed_dictionaries(
        {
            "top_k": st.integers(0, 80),
            "top_p": st.floats(0, 1),
            "typical_p": st.floats(0, 1),
            "min_p": st.floats(0, 1),
            "top_n_sigma": st.sampled_from([0.0, 0.5, 2.0]),
            "xtc_probability": st.sampled_from([0.0, 0.5, 1.0]),
            "xtc_threshold": st.floats(0, 0.6),
            "min_keep": st.integers(0, 4),
            "temperature": st.floats(0, 100),
            "dynamic_temperature_range": st.sampled_from([0.0, 0.5]),
            "dynamic_temperature_exponent": st.floats(0, 3),
            "repeat_penalty": st.floats(0.5, 2),
            "mirostat": st.sampled_from([0, 0, 2]),
            "mirostat_tau": st.floats(0, 10),
        }
    ),
    st.integers(0, 2**70 - 1),
    st.booleans(),
)
def test_any_options_choose_a_possible_token(values, biases, options, bits, compiled):
    n = len(values)
    biases = {i: bias for i, bias in biases.items() if i < n}
    scan = KernelScan(kernels()) if compiled else NUMPY_SCAN
    sampler = Sampler(SampleOptions(seed=1, logit_bias=biases, **options), n, scan)
    possible = {i for i in range(n) if bits >> i & 1 and biases.get(i) != -INFINITY}
    mask, logits = mask_of([i for i in range(n) if bits >> i & 1], n), np.array(values, np.float32)
    if not possible:
        with pytest.raises(EdgellamaError, match="no token can be chosen"):
            sampler.sample(logits, mask)
        return
    for _ in range(3):
        chosen = sampler.sample(logits, mask)
        assert chosen in possible
        sampler.accept(chosen)


@pytest.mark.parametrize(("tau", "temperature"), [(2.0, 1.0), (4.0, 1.0), (2.5, 0.7), (6.0, 1.5)])
def test_mirostat_keeps_the_surprise_at_its_target(tau, temperature, scan):
    """Every step by definition: tokens of a surprise up to mu, mu from the surprise among these; on average tau."""
    logits = (-1.1 * np.log(np.arange(1, 3001))).astype(np.float32)  # Zipf's law
    options = SampleOptions(seed=1, mirostat=2, mirostat_tau=tau, mirostat_eta=0.1, temperature=temperature)
    sampler, mu, surprises = Sampler(options, 3000, scan), 2 * tau, []
    bits_of_all = -np.log2(softmax(logits / np.float32(temperature)))
    for _ in range(600):
        chosen = sampler.sample(logits)
        assert bits_of_all[chosen] <= mu + 1e-4 or chosen == 0
        left = 2.0 ** -bits_of_all[(bits_of_all <= mu) | (np.arange(3000) == 0)]
        surprises.append(bits_of_all[chosen] + math.log2(left.sum()))
        mu -= 0.1 * (surprises[-1] - tau)
        assert sampler._mirostat.mu == pytest.approx(mu, abs=0.01)
    assert np.mean(surprises[100:]) == pytest.approx(tau, abs=0.1)


def test_mirostat_takes_biases_and_temperature_only(scan):
    """As in llama.cpp: nothing else that is set makes a difference."""
    logits = random_logits(500)
    plain = {"seed": 2, "mirostat": 2, "temperature": 0.9, "logit_bias": {3: -INFINITY}}
    more = plain | {"top_k": 1, "min_p": 1.0, "repeat_penalty": 5.0, "dry_multiplier": 9.0, "xtc_probability": 1.0}
    one, other = Sampler(SampleOptions(**plain), 500, scan), Sampler(SampleOptions(**more), 500, scan)
    for _ in range(40):
        chosen = one.sample(logits)
        assert chosen == other.sample(logits) != 3
        one.accept(chosen)
        other.accept(chosen)


@pytest.mark.parametrize("n", (1, 10, 5000))
def test_logprobs(n, scan):
    for logits in (random_logits(n), odd_logits(n), np.zeros(n, np.float32), random_logits(n) - np.float32(1000)):
        probabilities, order = softmax(logits), falling(logits)
        ids, values = logprobs(logits, 5, scan)
        assert ids.tolist() == order[:5] if n > 5 else set(order) <= set(ids.tolist())
        finite = [i for i in ids.tolist() if probabilities[i] > 0]
        np.testing.assert_allclose(values[: len(finite)], np.log(probabilities[finite]), atol=1e-6)
        assert logprob(logits, order[0], scan) == pytest.approx(math.log(probabilities[order[0]]), abs=TOLERANCE)
        assert values.dtype == np.float64 and len(logprobs(logits, 0, scan)[0]) == 0


def test_logprobs_of_odd_logits(scan):
    assert logprob(np.array([0, INFINITY, NAN, INFINITY], np.float32), 3, scan) == pytest.approx(-math.log(2))
    assert logprob(np.array([0, INFINITY, NAN, INFINITY], np.float32), 2, scan) == -INFINITY
    assert logprob(np.array([NAN, -INFINITY, NAN, NAN], np.float32), 2, scan) == pytest.approx(-math.log(4))


_NUMBERS = (-0.1, NAN, INFINITY, "hot", None, True)
_BAD = {
    "temperature": _NUMBERS,
    "top_k": (-1, 2.5, None, 2**31),
    "top_p": (1.1, *_NUMBERS),
    "min_p": (1.1, *_NUMBERS),
    "typical_p": (1.1, *_NUMBERS),
    "top_n_sigma": (101.0, *_NUMBERS),
    "xtc_probability": (1.1, *_NUMBERS),
    "xtc_threshold": (1.1, *_NUMBERS),
    "repeat_penalty": (0, -1.0, INFINITY),
    "frequency_penalty": (-101, 101, NAN),
    "presence_penalty": (-101, 101, NAN),
    "repeat_last_n": (-1, 1.5),
    "dry_multiplier": _NUMBERS,
    "dry_base": (0.9, *_NUMBERS),
    "dry_allowed_length": (0, 1.5),
    "dry_penalty_last_n": (-1, 1.5),
    "min_keep": (-1, 1.5),
    "dynamic_temperature_range": _NUMBERS,
    "dynamic_temperature_exponent": _NUMBERS,
    "mirostat": (-1, 3, 2.0, "2"),
    "mirostat_tau": _NUMBERS,
    "mirostat_eta": (1.1, *_NUMBERS),
    "seed": (-1, 2**64, 0.5),
}
_BAD_OTHERS = [
    ("mirostat", 1, "mirostat must be 0 (off) or 2, and is 1"),
    ("dry_sequence_breakers", "\n", "dry_sequence_breakers must be a list of texts that are not empty"),
    ("dry_sequence_breakers", ["a", ""], "dry_sequence_breakers must be"),
    ("dry_sequence_breakers", [3], "dry_sequence_breakers must be"),
    ("logit_bias", [(1, 2.0)], "logit_bias must map token ids to numbers"),
    ("logit_bias", {"1": 2.0}, "logit_bias must map token ids to numbers, and has the key '1'"),
    ("logit_bias", {-1: 2.0}, "has the key -1"),
    ("logit_bias", {1: NAN}, "logit_bias must be a finite number or -inf, and is nan for token 1"),
    ("logit_bias", {1: INFINITY}, "logit_bias must be"),
    ("logit_bias", {1: "2"}, "logit_bias must be"),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in _BAD.items() for value in values])
def test_options_are_checked(name, value):
    with pytest.raises(EdgellamaError, match=rf"^{name} must be an? (number|integer) from .* to .*, and is"):
        SampleOptions(**{name: value})


@pytest.mark.parametrize(("name", "value", "message"), _BAD_OTHERS)
def test_other_options_are_checked(name, value, message):
    with pytest.raises(EdgellamaError) as error:
        SampleOptions(**{name: value})
    assert str(error.value).startswith(message) or message in str(error.value)


def test_every_option_is_checked_and_documented():
    names = {field.name for field in dataclasses.fields(SampleOptions)}
    assert names == set(_BAD) | {name for name, _, _ in _BAD_OTHERS}
    assert all(name in SampleOptions.__doc__ for name in names)


def test_mutable_options_are_copied():
    biases, breakers = {1: 2.0}, ["a"]
    options = SampleOptions(logit_bias=biases, dry_sequence_breakers=breakers)
    biases[2] = 3.0
    breakers.append("b")
    assert options.logit_bias == {1: 2.0} and options.dry_sequence_breakers == ("a",)


def test_arguments_are_checked():
    sampler = Sampler(SampleOptions(), 40)
    for index in (-1, 40):
        with pytest.raises(EdgellamaError, match="outside the vocabulary"):
            sampler.accept(index)
    with pytest.raises(EdgellamaError, match=r"shape \(40,\), and have \(2, 40\)"):
        sampler.sample(np.zeros((2, 40), np.float32))
    for mask in (np.zeros(1, np.uint32), np.zeros(2, np.int64), np.zeros(40, bool)):
        with pytest.raises(EdgellamaError, match=r"allowed must be a uint32 array of the shape \(2,\), and is"):
            sampler.sample(np.zeros(40, np.float32), mask)
    with pytest.raises(EdgellamaError, match="logit_bias names token 40, and the vocabulary ends at 39"):
        Sampler(SampleOptions(logit_bias={40: 1.0}), 40)
