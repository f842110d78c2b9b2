"""Each step that drops tokens against its definition over the whole sorted vocabulary, with NumPy and with kernels."""

import itertools

import numpy as np
import pytest
import sampling_definitions as definitions
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_definitions import TOLERANCE, falling, kernels, odd_logits, prefix_lengths, random_logits, softmax

from edgellama.sampling import KernelScan, SampleOptions
from edgellama.sampling.few import Few
from edgellama.sampling.many import Many
from edgellama.sampling.scan import NUMPY_SCAN
from edgellama.sampling.steps import STEPS, steps_of, temperature_of

SIZES = (1, 2, 7, 200, 1000, 6000)


def many(make):
    return lambda logits: Many(make, logits)


def few(logits: np.ndarray) -> Few:
    return Few.of((i, x) for i, x in enumerate(logits.tolist()) if x > -np.inf)


MAKERS = {"few": few, "many, numpy": many(NUMPY_SCAN), "many, kernels": many(KernelScan(kernels()))}


@pytest.fixture(scope="module", params=MAKERS)
def make(request):
    """Candidates of an array of logits; each kind at any size, whether or not a sampler would choose it for that."""
    return MAKERS[request.param]


def ids_of(candidates, logits: np.ndarray) -> set[int]:
    """Who they are; also checks that their logits are still theirs."""
    if isinstance(candidates, Many):
        places = np.flatnonzero(candidates.logits > -np.inf)
        np.testing.assert_array_equal(candidates.logits[places], logits[places])
        ids = places.tolist()
    else:
        ids = list(candidates.ids)
        assert list(candidates.logits) == logits[ids].tolist() == sorted(logits[ids].tolist(), reverse=True)
    assert candidates.n == len(set(ids))
    assert candidates.top == logits[ids].max()
    best = [i for i in ids if logits[i] == candidates.top]
    assert candidates.likeliest_id() == min(best)
    return set(ids)


def run(make, name: str, logits: np.ndarray, *arguments) -> set[int]:
    """The ids that a step leaves; the input stays what it was."""
    before = logits.copy()
    result = getattr(make(logits), name)(*arguments)
    np.testing.assert_array_equal(logits, before)
    return ids_of(result, logits)


def check_prefix(found: set[int], order: list[int], probabilities: np.ndarray, share: float, min_keep: int = 0) -> None:
    """The first of the order, as many as reach the share."""
    lengths = {max(n, min(min_keep, len(order))) for n in prefix_lengths([probabilities[i] for i in order], share)}
    assert len(found) in lengths
    assert found == set(order[: len(found)])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("k", (1, 2, 40, 1000, 5999, 30_000))
def test_top_k(make, n, k):
    for logits in (random_logits(n, k), odd_logits(n, k), np.zeros(n, np.float32)):
        assert run(make, "top_k", logits, k) == definitions.top_k(logits, k)


@pytest.mark.parametrize("n", (1, 5, 100, 999))
def test_top_k_of_ties(make, n):
    logits = np.round(random_logits(1000)).astype(np.float32)
    assert run(make, "top_k", logits, n) == set(falling(logits)[:n])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("scale", (0.1, 3.0))
def test_top_p(make, n, scale):
    for p, least in itertools.product((0.0, 0.3, 0.9, 0.999), (0, 3, 5000)):
        for logits in (random_logits(n, n, scale), odd_logits(n, n)):
            check_prefix(run(make, "top_p", logits, p, least), falling(logits), softmax(logits), p, least)


def test_top_p_over_many_sizes_of_gaps(make):
    """Some logits far from all others, and crowds within a millionth of each other."""
    crowd = 5 + np.arange(3000, dtype=np.float32) * np.float32(1e-6)
    logits = np.concatenate([crowd, [9, 8.5, -1e30, -3e38], random_logits(500), crowd - 20]).astype(np.float32)
    for p in (0.01, 0.05, 0.3, 0.5, 0.9, 0.999999):
        found = run(make, "top_p", logits, p, 0)
        sums = np.cumsum(np.sort(softmax(logits))[::-1])
        reached = softmax(logits)[sorted(found)].sum()
        assert reached >= p - TOLERANCE and reached - softmax(logits)[sorted(found)].min() < p + TOLERANCE
        assert found == set(falling(logits)[: len(found)]) and sums[len(found) - 1] == pytest.approx(reached)


@pytest.mark.parametrize("n", (1000, 20_000))
def test_top_p_of_equals(make, n):
    """The lowest ids, exactly as many as it takes; also where one token stands out."""
    assert run(make, "top_p", np.zeros(n, np.float32), 0.9, 0) == set(range(n * 9 // 10))
    logits = np.zeros(n, np.float32)
    logits[-1] = np.log(n)  # as likely as all others together
    found = run(make, "top_p", logits, 0.75, 0)
    assert n - 1 in found and found - {n - 1} == set(range(len(found) - 1))
    assert len(found) == pytest.approx(n / 2, abs=2)


@pytest.mark.parametrize("n", SIZES)
def test_min_p(make, n):
    for p, least in itertools.product((1e-9, 0.05, 0.5, 1.0), (0, 3, 5000)):
        for logits in (random_logits(n, n), odd_logits(n, n), np.zeros(n, np.float32)):
            assert run(make, "min_p", logits, p, least) == definitions.min_p(logits, p, least)


@pytest.mark.parametrize("size", SIZES)
def test_top_n_sigma(make, size):
    for n, shift in itertools.product((0.1, 1.0, 2.5, 100.0), (0, -100)):
        for logits in (random_logits(size, size), odd_logits(size, size), np.zeros(size, np.float32)):
            moved = logits + np.float32(shift)
            assert run(make, "top_n_sigma", moved, n) == definitions.top_n_sigma(moved, n)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("scale", (0.1, 3.0))
def test_typical_p(make, n, scale):
    """Distances from the entropy are uncertain in the last places, so that near ones may change places."""
    for p, least in itertools.product((0.0, 0.2, 0.9), (0, 3, 5000)):
        logits = random_logits(n, n, scale)
        found = run(make, "typical_p", logits, p, least)
        distances, order = zip(*definitions.typical_order(logits), strict=True)
        distance_of, probabilities = dict(zip(order, distances, strict=True)), softmax(logits)
        assert max(distance_of[i] for i in found) <= distances[len(found) - 1] + 1e-5
        sums = np.cumsum([probabilities[i] for i in order])
        shortest, longest = (int(np.searchsorted(sums, p + slack, "right")) + 1 for slack in (-TOLERANCE, TOLERANCE))
        low, high = (min(max(length, least), n) for length in (shortest - 1, longest + 1))
        assert low <= len(found) <= high


def test_typical_p_by_hand(make):
    """Entropy 1.21 nats; surprises 0.69, 1.39, 1.90, 2.30: the second is nearest, then the first, then the third."""
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
    for p, wanted in ((0.2, {1}), (0.3, {0, 1}), (0.74, {0, 1}), (0.76, {0, 1, 2}), (0.95, {0, 1, 2, 3})):
        assert run(make, "typical_p", logits, p, 0) == wanted


@pytest.mark.parametrize("n", (4, 20_000))
def test_typical_p_must_be_exceeded_and_top_p_reached(make, n):
    logits = np.zeros(n, np.float32)
    assert run(make, "typical_p", logits, 0.5, 0) == set(range(n // 2 + 1))
    assert run(make, "top_p", logits, 0.5, 0) == set(range(n // 2))


@pytest.mark.parametrize("n", SIZES)
def test_xtc(make, n):
    for threshold, least in itertools.product((0.0, 0.0001, 0.01, 0.1, 0.5), (0, 3, 5000)):
        for logits in (random_logits(n, n), odd_logits(n, n), np.zeros(n, np.float32)):
            found, probabilities = run(make, "xtc", logits, threshold, least), softmax(logits)
            near = np.unique(probabilities[np.abs(probabilities - threshold) < TOLERANCE * threshold])
            assert found in [definitions.xtc(logits, t, least) for t in (threshold, *near.tolist(), *(near * 1.001))]


def test_xtc_by_hand(make):
    logits = np.log(np.array([0.2, 0.4, 0.1, 0.2, 0.1], np.float32))
    # Three reach the threshold; of the two least likely ones that with the higher id stays.
    assert run(make, "xtc", logits, 0.15, 0) == {2, 3, 4}
    assert run(make, "xtc", logits, 0.15, 4) == {0, 1, 2, 3, 4}
    assert run(make, "xtc", logits, 0.3, 0) == {0, 1, 2, 3, 4}


def test_xtc_happens_as_often_as_wanted(make):
    options, random = SampleOptions(xtc_probability=0.3, xtc_threshold=0.1), np.random.default_rng(5)
    step, candidates = steps_of(options)["xtc"], make(np.zeros(5, np.float32))
    happened = sum(step(candidates, options, random).n == 1 for _ in range(3000))
    assert 800 < happened < 1000


@pytest.mark.parametrize("n", SIZES)
def test_entropy_and_total(make, n):
    for logits in (random_logits(n, n), odd_logits(n, n), np.zeros(n, np.float32)):
        probabilities = softmax(logits)
        present = probabilities[probabilities > 0]
        assert make(logits).entropy() == pytest.approx(-(present * np.log(present)).sum(), rel=1e-5, abs=1e-6)
        for temperature in (0.5, 1.0, 2.0):
            wanted = 1 / softmax(logits / np.float32(temperature)).max()
            assert make(logits).total(temperature) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("n", (1, 2, 40, 3000))
def test_dynamic_temperature(make, n):
    for middle, spread, exponent in ((0.8, 0.5, 1.0), (1.0, 2.0, 0.5), (0.3, 1.0, 3.0), (0.0, 0.4, 1.0)):
        for logits in (random_logits(n, n), odd_logits(n, n), np.zeros(n, np.float32)):
            options = SampleOptions(
                temperature=middle, dynamic_temperature_range=spread, dynamic_temperature_exponent=exponent
            )
            wanted = definitions.dynamic_temperature(logits, middle, spread, exponent)
            assert temperature_of(make(logits), options) == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("temperature", (1e-30, 0.5, 1.0, 50.0))
def test_draw(make, n, temperature):
    """The token over which a share of the line lies on which candidates lie side by side, as long as they are likely.

    Few lie there in falling order, many in that of their ids.
    """
    for logits in (random_logits(n, n), odd_logits(n, n)):
        candidates = make(logits)
        lowered = np.where(np.isnan(logits), -np.inf, logits).astype(np.float64)
        probabilities = softmax((lowered - lowered.max()) / temperature)
        order = np.array(candidates.ids) if isinstance(candidates, Few) else np.arange(n)
        ends = np.cumsum(probabilities[order])
        for share in (0.0, 0.001, 0.3, 0.5, 0.9, 1 - 2.0**-53):
            token_id, probability = candidates.draw(temperature, share)
            place = int(np.flatnonzero(order == token_id)[0])
            slack = TOLERANCE * (1 + 20 / max(temperature, 0.1))
            assert ends[place] - probabilities[token_id] - slack <= share <= ends[place] + slack
            assert probabilities[token_id] > 0
            assert probability == pytest.approx(probabilities[token_id], rel=1e-4)


@pytest.mark.parametrize("scan", [NUMPY_SCAN, KernelScan(kernels())], ids=["numpy", "kernels"])
def test_steps_after_each_other(scan):
    """Many candidates that stay many: every step sees only what the last one left."""
    logits = random_logits(20_000, 4, 0.7)

    def left_of(ids) -> np.ndarray:
        return np.where(np.isin(np.arange(len(logits)), sorted(ids)), logits, -np.inf)

    first = Many(scan, logits).top_n_sigma(4.5)
    left = left_of(ids_of(first, logits))
    assert ids_of(first, logits) == definitions.top_n_sigma(logits, 4.5)
    second = first.top_p(0.8, 0)
    check_prefix(ids_of(second, logits), falling(left), softmax(left), 0.8)
    left = left_of(ids_of(second, logits))
    third = second.min_p(0.05, 0)
    assert ids_of(third, logits) == definitions.min_p(left, 0.05)
    left = left_of(ids_of(third, logits))
    assert third.entropy() == pytest.approx(-(softmax(left) * np.log(np.maximum(softmax(left), 1e-99))).sum(), rel=1e-5)
    fourth = third.xtc(0.0005, 0)
    assert ids_of(fourth, logits) == definitions.xtc(left, 0.0005) != ids_of(third, logits)
    left = left_of(ids_of(fourth, logits))
    assert ids_of(fourth.top_k(3), logits) == definitions.top_k(left, 3)
    probabilities = softmax(left)
    for share in (0.0, 0.4, 0.99):
        token_id, probability = fourth.draw(1.0, share)
        assert probability == pytest.approx(probabilities[token_id], rel=1e-5)
        assert abs(probabilities[: token_id + 1].sum() - share) <= probability + TOLERANCE
    assert all(isinstance(candidates, Many) for candidates in (first, second, third, fourth))


def test_a_bound_ends_among_equals():
    """Top-p takes some of equal tokens; the steps after it must not see the others."""
    logits = np.concatenate([np.full(2000, 1), np.zeros(18_000)]).astype(np.float32)
    for scan in (NUMPY_SCAN, KernelScan(kernels())):
        left = Many(scan, logits).top_p(0.6, 0)
        n = left.n
        assert 2000 < n < 20_000 and ids_of(left, logits) == set(range(n))
        assert left.draw(1.0, 1 - 2.0**-53)[0] == n - 1
        assert left.min_p(0.2, 0).n == n and left.min_p(0.5, 0).n == 2000
        assert left.total(1.0) == pytest.approx(2000 + (n - 2000) / np.e, rel=1e-6)
        assert left.top_k(n + 5).n == n


def test_the_order_of_the_steps():
    assert list(STEPS) == ["top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc"]
    on = {"top_n_sigma": 1.0, "typical_p": 0.9, "xtc_probability": 0.5}
    assert list(steps_of(SampleOptions(**on))) == list(STEPS)
    assert list(steps_of(SampleOptions())) == ["top_k", "top_p", "min_p"]
    off = SampleOptions(top_k=0, top_p=1.0, min_p=0.0, xtc_probability=1.0, xtc_threshold=0.51)
    assert not steps_of(off)


# Numbers near each other, ties, and what is no number.
_values = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-30, 30, width=32), st.sampled_from([float("nan"), float("-inf")])
)
_logits = st.lists(_values, min_size=1, max_size=80).filter(lambda values: any(v > float("-inf") for v in values))
_maker = st.sampled_from(list(MAKERS.values()))


@settings(max_examples=200, deadline=None)
@given(_logits, _maker, st.integers(1, 90), st.floats(0, 0.99), st.floats(0.001, 1.0), st.integers(0, 5))
def test_any_logits(values, make, k, p, share, least):
    """Top-k, top-p and min-p after each other."""

    def left_of(ids) -> np.ndarray:
        return np.where(np.isin(np.arange(len(logits)), sorted(ids)), logits, -np.inf).astype(np.float32)

    logits = np.array(values, np.float32)
    candidates = make(logits).top_k(k)
    assert ids_of(candidates, logits) == definitions.top_k(logits, k)
    left = left_of(ids_of(candidates, logits))
    candidates = candidates.top_p(p, least)
    check_prefix(ids_of(candidates, logits), falling(left), softmax(left), p, least)
    left = left_of(ids_of(candidates, logits))
    low = float(left.max()) + np.log(share)
    candidates = candidates.min_p(share, least)
    assert ids_of(candidates, logits) == {i for n, i in enumerate(falling(left)) if left[i] >= low or n < least}


@settings(max_examples=100, deadline=None)
@given(_logits, _maker, st.floats(0, 0.99), st.floats(0.0, 0.5), st.floats(0.1, 4.0))
def test_any_logits_leave_a_token(values, make, p, threshold, n):
    logits = np.array(values, np.float32)
    for name, arguments in (("typical_p", (p, 0)), ("xtc", (threshold, 0)), ("top_n_sigma", (n,))):
        found = run(make, name, logits, *arguments)
        assert found and found <= set(falling(logits))
