"""Choosing the next token from the logits of one position.

The steps and their order are those of llama.cpp: repetition penalty, top-k, top-p, min-p, temperature, draw. The
whole vocabulary is never sorted: top-k leaves few candidates, and without it what cannot be chosen is dropped first.
"""

import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from edgellama.errors import EdgellamaError


@dataclass(frozen=True)
class SampleOptions:
    """How to choose a token. Raises EdgellamaError naming the option that is out of range.

    temperature: 0 takes the likeliest token; larger is more varied.
    top_k: keep the k likeliest tokens; 0 keeps all.
    top_p: keep the likeliest tokens that together reach this probability; 1 keeps all.
    min_p: drop tokens less likely than this share of the likeliest one; 0 keeps all.
    repeat_penalty: divides positive and multiplies negative logits of the last `repeat_last_n` tokens; 1 is off.
    repeat_last_n: how many tokens back the penalty looks; 0 is off.
    seed: same seed, same tokens; None takes a fresh one.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    seed: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))


_INTEGERS = ("top_k", "repeat_last_n", "seed")
_RANGES = {  # lowest, highest
    "temperature": (0.0, 100.0),
    "top_k": (0, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 100.0),
    "repeat_last_n": (0, 2**31 - 1),
    "seed": (0, 2**64 - 1),
}


def _check(name: str, value: object) -> None:
    low, high = _RANGES[name]
    kind, noun = (int, "an integer") if name in _INTEGERS else (int | float, "a number")
    if value is None and name == "seed":
        return
    # A NaN is in no range.
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise EdgellamaError(f"{name} must be {noun} from {low} to {high}, and is {value!r}")


class Sampler:
    """Draws tokens for one sequence. `seed` is the seed in use, also where the options left it open.

    The prompt and every token of the answer go through `accept`, so that the penalty knows them.
    """

    def __init__(self, options: SampleOptions, vocab_size: int):
        self.options = options
        self.vocab_size = vocab_size
        self.seed = secrets.randbits(32) if options.seed is None else options.seed
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        self._recent: deque[int] = deque(maxlen=options.repeat_last_n)

    def accept(self, token_id: int) -> None:
        """Note a token of the text. Raises EdgellamaError for an id past the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            raise EdgellamaError(f"token id {token_id} is outside the vocabulary, which has 0 to {self.vocab_size - 1}")
        self._recent.append(int(token_id))

    def sample(self, logits: np.ndarray) -> int:
        """The id of the next token, from float32 logits (vocab_size,), which stay as they are.

        A NaN counts as lower than every number; of equal logits the lowest id goes first.
        """
        if logits.shape != (self.vocab_size,):
            raise EdgellamaError(f"logits must have the shape ({self.vocab_size},), and have {logits.shape}")
        logits = penalize(_without_nan(logits), self._recent, self.options.repeat_penalty)
        if self.options.temperature == 0:
            return int(logits.argmax())
        ids, weights = candidates(logits, self.options)
        scaled = weights ** (1 / self.options.temperature)
        bounds = np.cumsum(scaled)
        # The draw is below 1, but its product with the sum may round up to the sum.
        drawn = np.searchsorted(bounds, self._random.random() * bounds[-1], side="right")
        return int(ids[min(drawn, len(ids) - 1)])


def penalize(logits: np.ndarray, recent: Iterable[int], penalty: float) -> np.ndarray:
    """A copy of the logits with those of the recent tokens made less likely, each once; the same array if none are."""
    ids = np.array(sorted(set(recent)), np.intp)
    if penalty == 1 or not ids.size:
        return logits
    logits = logits.copy()
    chosen = logits[ids]
    logits[ids] = np.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits


def candidates(logits: np.ndarray, options: SampleOptions) -> tuple[np.ndarray, np.ndarray]:
    """Ids that top-k, top-p and min-p leave and their weights before temperature, the likeliest one's being 1.

    Both (n,), n >= 1, likeliest first; in order of id where nothing is cut off.
    """
    if 0 < options.top_k < len(logits):
        ids = likeliest(logits, options.top_k)
        weights = _weights(logits[ids])
        total = weights.sum()
    else:
        ids, weights, total = _candidates_of_all(logits, options)
    if options.top_p < 1:
        n_kept = np.searchsorted(np.cumsum(weights), options.top_p * total) + 1
        ids, weights = ids[:n_kept], weights[:n_kept]
    kept = weights >= options.min_p
    return ids[kept], weights[kept]


def likeliest(logits: np.ndarray, n: int) -> np.ndarray:
    """The ids of the n largest logits, largest first, of equal ones the lowest id first; the rest is never sorted."""
    n = min(n, len(logits))
    smallest = np.partition(logits, len(logits) - n)[len(logits) - n]
    above = np.flatnonzero(logits > smallest)
    equal = np.flatnonzero(logits == smallest)[: n - len(above)]
    return _in_order(np.concatenate([above, equal]), logits)


def _candidates_of_all(logits: np.ndarray, options: SampleOptions) -> tuple[np.ndarray, np.ndarray, float]:
    """Without top-k: the ids that can be left after top-p and min-p, their weights, and the weight of all tokens.

    What min-p drops lies at the end of the order, so it may go first: top-p's sums do not notice.
    """
    weights = _weights(logits)
    total = float(weights.sum())
    if options.min_p > 0:
        ids = _in_order(np.flatnonzero(weights >= options.min_p), logits)
    elif options.top_p < 1:
        ids = _enough_for(options.top_p * total, logits, weights)
    else:
        ids = np.arange(len(logits))
    return ids, weights[ids], total


def _enough_for(weight: float, logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The likeliest ids, at least so many that together they reach `weight`."""
    n = 1024
    ids = likeliest(logits, n)
    while n < len(logits) and weights[ids].sum() < weight:
        n *= 8
        ids = likeliest(logits, n)
    return ids


def _in_order(ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Ascending ids, ordered by falling logit."""
    return ids[np.argsort(-logits[ids], kind="stable")]


def _weights(logits: np.ndarray) -> np.ndarray:
    """exp(logit - largest logit) in float64."""
    with np.errstate(invalid="ignore"):
        differences = logits.astype(np.float64) - logits.max()
    # Infinity minus infinity: equal to the largest, so as likely.
    return np.exp(np.where(np.isnan(differences), 0.0, differences))


def _without_nan(logits: np.ndarray) -> np.ndarray:
    missing = np.isnan(logits)
    return np.where(missing, np.float32(-np.inf), logits) if missing.any() else logits
