"""Mirostat 2: keeps the surprise of the text near a target (Basu et al. 2021, "Mirostat", algorithm 2).

Surprise is in bits: -log2 of a token's probability. Tokens with more surprise than mu are dropped, one of the others is
drawn, and mu moves against the difference between the surprise of that one, among those left, and the target tau.
"""

import math

import numpy as np

from .candidates import Candidates
from .options import SampleOptions
from .steps import LOWEST_TEMPERATURE

LN2 = math.log(2)


class Mirostat:
    """The state of one text: `mu`, at first twice the target."""

    def __init__(self, options: SampleOptions):
        self._tau, self._eta = options.mirostat_tau, options.mirostat_eta
        self._temperature = max(options.temperature, LOWEST_TEMPERATURE)
        self.mu = 2 * self._tau

    def choose(self, candidates: Candidates, random: np.random.Generator) -> int:
        """The id of the next token."""
        left = self._least_surprising(candidates)
        token_id, probability = left.draw(self._temperature, random.random())
        self.mu -= self._eta * (-math.log2(probability) - self._tau)
        return token_id

    def _least_surprising(self, candidates: Candidates) -> Candidates:
        """Those with a surprise of at most mu; the likeliest if even that has more."""
        below_top = self._temperature * (math.log(candidates.total(self._temperature)) - self.mu * LN2)
        return candidates.at_least(candidates.top + below_top) if below_top <= 0 else candidates.top_k(1)
