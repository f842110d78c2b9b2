"""Perplexity of a text: exp of the mean negative log-likelihood of its tokens, as llama.cpp's tool defines it.

Of each chunk the second half is scored, so that every prediction has seen at least half a context. Numbers of
different tokenizers, contexts or texts do not compare.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgellama.errors import EdgellamaError

from .text_chunks import TextChunks

if TYPE_CHECKING:
    from edgellama import Model, Session

SMALLEST_CONTEXT = 5  # of which two positions are scored: an error needs two
Report = Callable[[str, int, int], None]


class Estimate(NamedTuple):
    """A figure and its standard error."""

    value: float
    error: float


class Perplexity(NamedTuple):
    """Of `n_tokens` that were scored."""

    estimate: Estimate
    n_tokens: int


class ScoredRows(NamedTuple):
    """Some neighbouring positions of a chunk: float32 logits (n, vocab), and the tokens (n,) that the text has next."""

    logits: NDArray[np.float32]
    targets: NDArray[np.int32]


def n_scored(context: int) -> int:
    """How many positions of a chunk are scored: those from its middle on that have a token after them."""
    return context - 1 - context // 2


def scored_rows(model: "Model", chunks: TextChunks, report: Report | None = None) -> Iterator[ScoredRows]:
    """Evaluate all chunks. Raises EdgellamaError for a chunk too short to score, or logits that are no numbers."""
    if chunks.context < SMALLEST_CONTEXT:
        raise EdgellamaError(f"a context of {chunks.context} is too short to score: give at least {SMALLEST_CONTEXT}")
    total, done = len(chunks) * n_scored(chunks.context), 0
    with model.new_session() as session:
        for index, targets in enumerate(chunks.ids):
            for first, logits in _second_half(session, chunks.evaluated(index)):
                if not np.isfinite(logits).all():
                    raise EdgellamaError(f"{model.file.path}: chunk {index + 1} has logits that are no finite numbers")
                yield ScoredRows(logits, targets[first + 1 : first + 1 + len(logits)])
                done += len(logits)
                if report:
                    report(f"chunk {index + 1} of {len(chunks)}", done, total)


def _second_half(session: "Session", ids: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Logits of the scored positions as (first position, (n, vocab)), as many at a time as one step gives."""
    middle, end, step = len(ids) // 2, len(ids) - 1, session.model.frame.max_rows
    session.reset()
    session.prefill(ids[:middle])
    for first in range(middle, end, step):
        yield first, session.logits(ids[first : min(first + step, end)])


def log_sums(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """log(sum(exp(row))) of each row of (n, vocab), in float64."""
    largest = logits.max(axis=1)
    sums = np.exp(logits - largest[:, None]).sum(axis=1, dtype=np.float64)
    return largest + np.log(sums)


def negative_log_likelihoods(rows: ScoredRows) -> NDArray[np.float64]:
    """-log of the probability of each target, (n,)."""
    return log_sums(rows.logits) - rows.logits[np.arange(len(rows.targets)), rows.targets]


def mean_with_error(values: NDArray) -> Estimate:
    """The mean of (n,) independent values, at least two, and its standard error, sqrt(variance / (n - 1))."""
    error = math.sqrt(np.var(values, dtype=np.float64) / (len(values) - 1))
    return Estimate(float(np.mean(values, dtype=np.float64)), error)


def exp_estimate(logarithm: Estimate) -> Estimate:
    """exp of a figure, infinite where no float holds it; its error to first order."""
    try:
        value = math.exp(logarithm.value)
    except OverflowError:
        value = math.inf
    return Estimate(value, value * logarithm.error)


def perplexity(rows: Iterable[ScoredRows], save: Callable[[NDArray[np.float32]], object] | None = None) -> Perplexity:
    """The perplexity of what was scored; `save` is given the logits on the way."""
    losses = []
    for some in rows:
        if save:
            save(some.logits)
        losses.append(negative_log_likelihoods(some))
    found = np.concatenate(losses)
    return Perplexity(exp_estimate(mean_with_error(found)), len(found))
