"""What changes single logits before any token is dropped: biases and the penalties for recent tokens.

A change is (token ids, amounts, rule): the logit of each of these tokens becomes rule(logit, amount).
"""

from collections import deque
from collections.abc import Callable
from operator import add

from .options import SampleOptions

Change = tuple[list[int], list[float], Callable[[float, float], float]]


def bias(options: SampleOptions) -> Change | None:
    """What logit_bias adds."""
    return (list(options.logit_bias), list(options.logit_bias.values()), add) if options.logit_bias else None


class RecentTokens:
    """The last tokens of the text, and the penalties for using them again."""

    def __init__(self, options: SampleOptions):
        self._options = options
        self._recent: deque[int] = deque()
        self._counts: dict[int, int] = {}

    @staticmethod
    def is_on(options: SampleOptions) -> bool:
        """Whether there are any such penalties."""
        penalties = (options.repeat_penalty != 1, options.frequency_penalty != 0, options.presence_penalty != 0)
        return options.repeat_last_n > 0 and any(penalties)

    def accept(self, token_id: int) -> None:
        """Note a token of the text."""
        self._recent.append(token_id)
        self._counts[token_id] = self._counts.get(token_id, 0) + 1
        if len(self._recent) > self._options.repeat_last_n:
            oldest = self._recent.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def change(self) -> Change | None:
        """The penalties for the next token; the amounts are how often each was used."""
        return (list(self._counts), list(self._counts.values()), self._penalized) if self._counts else None

    def _penalized(self, logit: float, count: float) -> float:
        """Keskar et al. 2019 divide; a negative logit has to be multiplied to become less likely."""
        options = self._options
        repeated = logit / options.repeat_penalty if logit > 0 else logit * options.repeat_penalty
        return repeated - count * options.frequency_penalty - options.presence_penalty
