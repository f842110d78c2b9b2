"""What the tokens that may still be chosen can do. Few of them and many have a class each, few.py and many.py.

The steps are those of llama.cpp's samplers of the same names. Each takes what the steps before it left as the whole
distribution: probabilities are of those tokens. Of equally likely tokens the lowest id goes first. "At least `least`"
means that a step goes on in its own order until there are so many.
"""

from typing import Protocol

FEW = 256  # candidates that are listed one by one


class Candidates(Protocol):
    """Tokens with finite logits, at least one."""

    @property
    def n(self) -> int:
        """How many there are."""

    @property
    def top(self) -> float:
        """The largest logit."""

    def likeliest_id(self) -> int:
        """The id of the likeliest."""

    def top_n_sigma(self, n: float) -> "Candidates":
        """Logits no more than n standard deviations of all of them below the largest (Tang et al. 2024)."""

    def top_k(self, k: int) -> "Candidates":
        """The k likeliest (Fan et al. 2018)."""

    def typical_p(self, p: float, least: int) -> "Candidates":
        """Those whose surprise is nearest to the entropy, until they exceed probability p (Meister et al. 2022).

        The surprise less the entropy is the logit that is to be expected less the token's logit. At least `least`.
        """

    def top_p(self, p: float, least: int) -> "Candidates":
        """The likeliest until they reach probability p (Holtzman et al. 2019). At least `least`."""

    def min_p(self, p: float, least: int) -> "Candidates":
        """Those at least p times as likely as the likeliest (Nguyen et al. 2024). At least `least`."""

    def xtc(self, threshold: float, least: int) -> "Candidates":
        """Without those of at least the threshold's probability, but with the least likely of these (Weidmann).

        All, if less than `least` would be left. https://github.com/oobabooga/text-generation-webui/pull/6335
        """

    def at_least(self, low: float) -> "Candidates":
        """Those with a logit of at least `low`, which is not above the largest."""

    def total(self, temperature: float) -> float:
        """The sum of exp((logit - top) / temperature)."""

    def entropy(self) -> float:
        """In nats."""

    def draw(self, temperature: float, share: float) -> tuple[int, float]:
        """The token at which the probabilities so far exceed a share of 1, 0 <= share < 1; and its own probability."""
