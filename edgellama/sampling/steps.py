"""The order of the steps that leave fewer candidates, when each is on, and the temperature at the end."""

import math
from collections.abc import Callable

import numpy as np

from .candidates import Candidates
from .options import SampleOptions

Step = Callable[[Candidates, SampleOptions, np.random.Generator], Candidates]

LOWEST_TEMPERATURE = 1e-30  # below it only equal logits are equally likely anyway, and its inverse is a float32


def _xtc(candidates: Candidates, options: SampleOptions, random: np.random.Generator) -> Candidates:
    """A number is drawn only where there is something to drop."""
    if candidates.n < 2 or random.random() >= options.xtc_probability:
        return candidates
    return candidates.xtc(options.xtc_threshold, options.min_keep)


STEPS: dict[str, tuple[Callable[[SampleOptions], bool], Step]] = {
    "top_n_sigma": (
        lambda options: options.top_n_sigma > 0,
        lambda candidates, options, random: candidates.top_n_sigma(options.top_n_sigma),
    ),
    "top_k": (
        lambda options: options.top_k > 0,
        lambda candidates, options, random: candidates.top_k(options.top_k),
    ),
    "typical_p": (
        lambda options: options.typical_p < 1,
        lambda candidates, options, random: candidates.typical_p(options.typical_p, options.min_keep),
    ),
    "top_p": (
        lambda options: options.top_p < 1,
        lambda candidates, options, random: candidates.top_p(options.top_p, options.min_keep),
    ),
    "min_p": (
        lambda options: options.min_p > 0,
        lambda candidates, options, random: candidates.min_p(options.min_p, options.min_keep),
    ),
    "xtc": (
        lambda options: options.xtc_probability > 0 and options.xtc_threshold <= 0.5,
        _xtc,
    ),
}


def steps_of(options: SampleOptions) -> dict[str, Step]:
    """The steps that are on, in their order."""
    return {name: step for name, (is_on, step) in STEPS.items() if is_on(options)}


def temperature_of(candidates: Candidates, options: SampleOptions) -> float:
    """The temperature for these candidates: fixed, or between its bounds as their entropy is between none and full."""
    spread = options.dynamic_temperature_range
    if spread == 0 or candidates.n < 2:
        return options.temperature
    low, high = max(options.temperature - spread, 0.0), options.temperature + spread
    part = min(max(candidates.entropy() / math.log(candidates.n), 0.0), 1.0)
    return low + (high - low) * part**options.dynamic_temperature_exponent
