"""What each step of sampling means, written out over the whole sorted vocabulary in float64, and what tests share."""

from functools import cache

import numpy as np

from edgellama.compiler import Kernels, load_kernels
from edgellama.compiler.groups import Group, register
from edgellama.simd.detect import chosen_isa

MODULES = tuple(f"edgellama.cpu.kernels.{name}" for name in ("sampling", "leading"))
register(Group("sampling_tests", MODULES, "sampling_tests"))
TOLERANCE = 1e-6  # of probabilities that compiled passes have added up in float32


@cache
def kernels(isa: str | None = None) -> Kernels:
    """The kernels of sampling alone."""
    return load_kernels(isa=isa or chosen_isa(), package="sampling_tests")


def random_logits(n: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * scale).astype(np.float32)


def odd_logits(n: int, seed: int = 0) -> np.ndarray:
    """With ties, NaN and minus infinity."""
    logits, random = np.round(random_logits(n, seed), 1), np.random.default_rng(seed)
    logits[random.random(n) < 0.1] = np.nan
    logits[random.random(n) < 0.1] = -np.inf
    logits[random.integers(n)] = 2.5
    return logits


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 probabilities; none for NaN and minus infinity."""
    lowered = np.where(np.isnan(logits), -np.inf, logits).astype(np.float64)
    weights = np.exp(lowered - lowered.max())
    return weights / weights.sum()


def falling(logits: np.ndarray) -> list[int]:
    """All candidates, likeliest first, of equal ones the lowest id."""
    return sorted((i for i in range(len(logits)) if logits[i] > -np.inf), key=lambda i: (-logits[i], i))


def prefix_lengths(probabilities: list[float], share: float) -> range:
    """How many of the first may be taken so that they reach the share, but not with one less; sums are uncertain."""
    sums = np.cumsum(probabilities)
    shortest = int(np.searchsorted(sums, share - TOLERANCE)) + 1
    longest = int(np.searchsorted(sums, share + TOLERANCE)) + 1
    return range(min(shortest, len(sums)), min(longest, len(sums)) + 1)


def top_k(logits: np.ndarray, k: int) -> set[int]:
    return set(falling(logits)[:k])


def min_p(logits: np.ndarray, p: float, min_keep: int = 0) -> set[int]:
    probabilities = softmax(logits)
    order = falling(logits)
    return {i for n, i in enumerate(order) if probabilities[i] >= p * probabilities[order[0]] or n < min_keep}


def top_n_sigma(logits: np.ndarray, n: float) -> set[int]:
    finite = logits[logits > -np.inf].astype(np.float64)
    low = finite.max() - n * np.sqrt(np.mean((finite - finite.mean()) ** 2))
    return {i for i in range(len(logits)) if logits[i] >= low}


def typical_order(logits: np.ndarray) -> list[tuple[float, int]]:
    """(distance between surprise and entropy, id), nearest first."""
    probabilities = softmax(logits)
    surprise = {i: -np.log(probabilities[i]) for i in falling(logits) if probabilities[i] > 0}
    entropy = sum(probabilities[i] * value for i, value in surprise.items())
    return sorted((abs(value - entropy), i) for i, value in surprise.items())


def xtc(logits: np.ndarray, threshold: float, min_keep: int = 0) -> set[int]:
    """When it happens at all."""
    probabilities, order = softmax(logits), falling(logits)
    reaching = [i for i in order if probabilities[i] >= threshold]
    is_off = len(reaching) < 2 or len(order) - len(reaching) + 1 < min_keep
    return set(order) if is_off else set(order) - set(reaching[:-1])


def dynamic_temperature(logits: np.ndarray, middle: float, spread: float, exponent: float) -> float:
    probabilities = softmax(logits)
    present = probabilities[probabilities > 0]
    if len(present) == 1:
        return middle
    share = -(present * np.log(present)).sum() / np.log(len(present))
    low, high = max(0.0, middle - spread), middle + spread
    return low + (high - low) * share**exponent


def chi_square_limit(degrees: int) -> float:
    """Exceeded with a probability of about 1e-4 (Wilson and Hilferty 1931; 3.719 is that quantile of the normal)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.719 * np.sqrt(2 / (9 * degrees))) ** 3
