"""Probabilities of the model itself, before any step of sampling: the log-softmax of raw logits."""

import math

import numpy as np

from .many import Many
from .scan import NOTHING, NUMPY_SCAN, Scan


def logprobs(logits: np.ndarray, n: int, scan: Scan = NUMPY_SCAN) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the n likeliest tokens, likeliest first, and the natural logarithms of their probabilities, float64.

    `logits` are float32 (vocab_size,); a NaN counts as minus infinity. With a KernelScan the error is below 1e-6.
    """
    candidates = _candidates(logits, scan)
    found = scan.likeliest(candidates.logits, max(n, 1), len(logits))
    order = np.argsort(-np.array(found[1]), kind="stable")[:n]
    return np.array(found[0])[order], np.array(found[1])[order] - _log_sum(candidates)


def logprob(logits: np.ndarray, token_id: int, scan: Scan = NUMPY_SCAN) -> float:
    """The natural logarithm of one token's probability; see logprobs()."""
    candidates = _candidates(logits, scan)
    return float(np.fmax(candidates.logits[token_id], NOTHING)) - _log_sum(candidates)


def _log_sum(candidates: Many) -> float:
    """ln of the sum of exp(logit)."""
    return candidates.top + math.log(candidates.total(1.0))


def _candidates(logits: np.ndarray, scan: Scan) -> Many:
    """Where the largest logit is infinite, all that have it share the probability."""
    candidates = Many(scan, np.ascontiguousarray(logits, np.float32))
    if math.isfinite(candidates.top):
        return candidates
    has_it = np.fmax(candidates.logits, NOTHING) == candidates.top
    return Many(scan, np.where(has_it, 0, NOTHING).astype(np.float32))
