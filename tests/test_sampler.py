"""Sampling against each step's definition, written out over the whole sorted vocabulary."""

import dataclasses
import itertools

import numpy as np
import pytest

from edgellama.errors import EdgellamaError
from edgellama.sampler import SampleOptions, Sampler, candidates, likeliest, penalize

ALL_OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def random_logits(n: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * scale).astype(np.float32)


def candidates_by_definition(logits: np.ndarray, options: SampleOptions) -> dict[int, float]:
    """Id -> probability before temperature, after sorting everything and applying the three cuts one by one."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    order = order[: options.top_k or None]
    weights = [float(np.exp(np.float64(logits[i]) - np.float64(logits[order[0]]))) for i in order]
    if options.top_p < 1:
        sums = np.cumsum(weights) / sum(weights)
        n_kept = next(n for n, reached in enumerate(sums, start=1) if reached >= options.top_p or n == len(order))
        order, weights = order[:n_kept], weights[:n_kept]
    kept = {i: weight for i, weight in zip(order, weights, strict=True) if weight >= options.min_p * weights[0]}
    return {i: weight / sum(kept.values()) for i, weight in kept.items()}


@pytest.mark.parametrize("n", [1, 7, 3000])
@pytest.mark.parametrize("top_k", [0, 1, 40, 5000])
def test_candidates(n, top_k):
    for seed, (top_p, min_p) in enumerate(itertools.product([0.0, 0.5, 0.95, 1.0], [0.0, 0.05, 1.0])):
        logits = random_logits(n, seed)
        options = SampleOptions(top_k=top_k, top_p=top_p, min_p=min_p)
        ids, weights = candidates(logits, options)
        expected = candidates_by_definition(logits, options)
        assert set(ids.tolist()) == set(expected), options
        found = dict(zip(ids.tolist(), (weights / weights.sum()).tolist(), strict=True))
        assert found == pytest.approx(expected, rel=1e-9)


def test_candidates_of_a_flat_distribution():
    """Top-p alone over many equal tokens needs nearly all of them, more than the first guess."""
    ids, weights = candidates(np.zeros(20_000, np.float32), SampleOptions(top_k=0, min_p=0.0, top_p=0.9))
    assert ids.tolist() == list(range(18_000))
    assert (weights == 1).all()


@pytest.mark.parametrize("n", [1, 5, 100, 1000])
def test_likeliest(n):
    logits = np.round(random_logits(1000)).astype(np.float32)  # many ties
    by_definition = sorted(range(1000), key=lambda i: (-logits[i], i))[:n]
    assert likeliest(logits, n).tolist() == by_definition


def test_greedy():
    sampler = Sampler(SampleOptions(temperature=0), 5)
    assert sampler.sample(np.array([1, 3, 2, 3, 0], np.float32)) == 1
    assert sampler.sample(np.array([np.nan, -5, np.nan, -4, -6], np.float32)) == 3
    assert sampler.sample(np.array([0, 1, np.inf, 5, np.inf], np.float32)) == 2
    assert sampler.sample(np.full(5, np.nan, np.float32)) == 0


def test_penalty():
    logits = np.array([2.0, -2.0, 0.0, 4.0], np.float32)
    assert penalize(logits, [0, 1, 2, 0], 2.0).tolist() == [1.0, -4.0, 0.0, 4.0]
    assert logits.tolist() == [2.0, -2.0, 0.0, 4.0]
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


def test_frequencies_follow_temperature():
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    for temperature in (0.5, 1.0, 2.0):
        sampler = Sampler(SampleOptions(temperature=temperature, seed=1, **ALL_OFF), 3)
        counts = np.bincount([sampler.sample(logits) for _ in range(20_000)], minlength=3)
        wanted = np.array([0.5, 0.3, 0.2]) ** (1 / temperature)
        np.testing.assert_allclose(counts / 20_000, wanted / wanted.sum(), atol=0.015)


@pytest.mark.parametrize("options", [{}, ALL_OFF, {"top_k": 0}, {"repeat_penalty": 1.3}], ids=str)
def test_seed_decides(options):
    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(SampleOptions(temperature=2.0, seed=seed, **options), 1000)
        ids = []
        for step in range(50):
            ids.append(sampler.sample(random_logits(1000, step)))
            sampler.accept(ids[-1])
        return ids

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)


def test_fresh_seed_can_be_used_again():
    first = Sampler(SampleOptions(temperature=5.0), 1000)
    second = Sampler(dataclasses.replace(first.options, seed=first.seed), 1000)
    logits = random_logits(1000)
    assert [first.sample(logits) for _ in range(20)] == [second.sample(logits) for _ in range(20)]


def test_odd_logits():
    for options in ({}, ALL_OFF, {"top_k": 0}, {"top_k": 2, "temperature": 1e-6}, {"temperature": 5e-324}):
        sampler = Sampler(SampleOptions(**{"seed": 1, **options}), 4)
        assert sampler.sample(np.array([np.nan, -np.inf, 1, -np.inf], np.float32)) == 2
        assert sampler.sample(np.array([0, np.inf, 1, np.nan], np.float32)) == 1
        assert sampler.sample(np.array([0, 3e38, -3e38, 0], np.float32)) == 1
        assert 0 <= sampler.sample(np.full(4, -np.inf, np.float32)) < 4
        assert 0 <= sampler.sample(np.full(4, np.nan, np.float32)) < 4


def test_logits_stay_as_they_are():
    logits = random_logits(100)
    logits[3] = np.nan
    logits.flags.writeable = False
    sampler = Sampler(SampleOptions(repeat_penalty=1.5), 100)
    sampler.accept(4)
    assert sampler.sample(logits) != 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in (-0.1, float("nan"), float("inf"), "hot", None, True)),
        *(("top_k", value) for value in (-1, 2.5, None, 2**31)),
        *(("top_p", value) for value in (-0.1, 1.1, float("nan"))),
        *(("min_p", value) for value in (-0.1, 1.1)),
        *(("repeat_penalty", value) for value in (0, -1.0, float("inf"))),
        *(("repeat_last_n", value) for value in (-1, 1.5)),
        *(("seed", value) for value in (-1, 2**64, 0.5)),
    ],
)
def test_options_are_checked(name, value):
    with pytest.raises(EdgellamaError, match=rf"^{name} must be an? (number|integer) from .* to .*, and is"):
        SampleOptions(**{name: value})


def test_arguments_are_checked():
    sampler = Sampler(SampleOptions(), 10)
    for index in (-1, 10):
        with pytest.raises(EdgellamaError, match="outside the vocabulary"):
            sampler.accept(index)
    with pytest.raises(EdgellamaError, match=r"shape \(10,\), and have \(2, 10\)"):
        sampler.sample(np.zeros((2, 10), np.float32))
