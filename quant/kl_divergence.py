"""How far a model's predictions are from a base model's, token by token, with the figures of llama.cpp's tool.

Of each scored position: the divergence sum(p_base * ln(p_base / p)) of Kullback and Leibler (1951), the change of the
probability of the text's own next token, and whether both models think the same token likeliest.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgellama.errors import EdgellamaError

from .log_prob_file import DEPTH, LogProbFile
from .perplexity import Estimate, ScoredRows, exp_estimate, log_sums, mean_with_error
from .text_chunks import TextChunks, first_id

if TYPE_CHECKING:
    from edgellama import Model

DIVERGENCE_PERCENTILES = (99.9, 99, 95, 90, 50, 10, 5, 1, 0.1)
CHANGE_PERCENTILES = (99.9, 99, 95, 90, 75, 50, 25, 10, 5, 1, 0.1)

# What is kept of a position: negative log-likelihoods of its target, the divergence, and whether the top is the same.
POSITION = np.dtype([("loss", "f8"), ("base_loss", "f8"), ("divergence", "f8"), ("same_top", "?")])


def compare(rows: ScoredRows, base: NDArray[np.float32]) -> NDArray:
    """POSITION (n,) of a model's logits and a base's log-probabilities (n, vocab).

    Tokens to which the base gives less than exp(-16) take no part in the divergence.
    """
    own = rows.logits - log_sums(rows.logits).astype(np.float32)[:, None]  # log-probabilities (n, vocab)
    terms = np.where(base > -DEPTH, np.exp(base) * (base - own), np.float32(0))
    picked = np.arange(len(rows.targets)), rows.targets
    found = np.empty(len(rows.targets), POSITION)
    found["loss"], found["base_loss"] = -own[picked], -base[picked]
    found["divergence"] = terms.sum(axis=1, dtype=np.float64)
    found["same_top"] = own.argmax(axis=1) == base.argmax(axis=1)
    return found


def base_chunks(base: LogProbFile, model: "Model") -> TextChunks:
    """The tokens that the base was evaluated on. Raises EdgellamaError if the model has another vocabulary."""
    if base.vocabulary != model.config.vocab_size:
        own = f"{model.file.path} has {model.config.vocab_size}"
        raise EdgellamaError(f"{base.path}: is of a vocabulary of {base.vocabulary} tokens, and {own}")
    return TextChunks(base.ids, first_id(model.tokenizer))


def compare_with_file(rows: Iterable[ScoredRows], base: LogProbFile) -> NDArray:
    """POSITION (n,) of all rows, which are those of the file's first chunks."""
    return np.concatenate([compare(some, base.read(len(some.targets))) for some in rows])


def statistics(positions: NDArray) -> dict[str, Any]:
    """All figures of POSITION (n,): Estimates, numbers, and for the two distributions a dict each.

    Divergences are in natural logarithms, probabilities and their changes from 0 to 1.
    """
    loss, base_loss = mean_with_error(positions["loss"]), mean_with_error(positions["base_loss"])
    own, base = exp_estimate(loss), exp_estimate(base_loss)
    difference = mean_with_error(own.value * positions["loss"] - base.value * positions["base_loss"])
    log_ratio = mean_with_error(positions["loss"] - positions["base_loss"])
    change = np.exp(-positions["loss"]) - np.exp(-positions["base_loss"])
    return {
        "perplexity": own,
        "base_perplexity": base,
        "correlation": _correlation(positions["loss"], positions["base_loss"]),
        "log_ratio": log_ratio,
        "ratio": exp_estimate(log_ratio),
        "difference": Estimate(own.value - base.value, difference.error),
        "divergence": _distribution(positions["divergence"], DIVERGENCE_PERCENTILES),
        "change": _distribution(change, CHANGE_PERCENTILES) | {"rms": _root_mean_square(change)},
        "same_top": mean_with_error(positions["same_top"]),
    }


def _distribution(values: NDArray, percentiles: tuple[float, ...]) -> dict[str, Any]:
    shares = np.percentile(values, percentiles)  # linear between neighbours
    return {
        "mean": mean_with_error(values),
        "maximum": float(values.max()),
        "percentiles": dict(zip(map(str, percentiles), shares.tolist(), strict=True)),
        "minimum": float(values.min()),
    }


def _root_mean_square(values: NDArray) -> Estimate:
    """Its error by that of the mean square, to first order."""
    square = mean_with_error(np.square(values))
    root = math.sqrt(square.value)
    return Estimate(root, square.error / (2 * root) if root else 0.0)


def _correlation(a: NDArray, b: NDArray) -> float:
    spread = np.std(a) * np.std(b)
    return float(np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread else math.nan
