"""Rotary frequencies under every scaling, against their definitions; files that lack what their scaling needs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edgellama import rope
from edgellama.config import ModelConfig, RopeScaling
from edgellama.errors import ModelError

CONFIG = ModelConfig("llama", "", 4096, 64, 1, 64, 4, 4, 16, 16, 1e-5, 16, 10000.0, RopeScaling(), 32)
PLAIN = 10000.0 ** (-np.arange(0, 16, 2) / 16)


def scaled(**scaling) -> ModelConfig:
    return replace(CONFIG, rope_scaling=RopeScaling(**scaling))


def test_without_scaling_and_linear():
    for config, factor in ((CONFIG, 1.0), (scaled(kind="linear", factor=4.0), 4.0)):
        inverse, magnitude = rope.frequencies(config, 4096, {})
        np.testing.assert_allclose(inverse, PLAIN / factor, rtol=1e-15)
        assert magnitude == 1.0


def test_llama3_divides_by_the_tensor():
    divisors = np.linspace(1, 32, 8).astype(np.float32)
    inverse, _ = rope.frequencies(scaled(kind="llama3"), 4096, {"freqs": divisors})
    np.testing.assert_allclose(inverse, PLAIN / divisors, rtol=1e-15)


def test_yarn_keeps_fast_pairs_stretches_slow_ones_and_raises_the_magnitude():
    scaling = dict(kind="yarn", factor=8.0, original_context=512, yarn_ext_factor=1.0)
    inverse, magnitude = rope.frequencies(scaled(**scaling), 4096, {})
    turns = 512 * PLAIN / (2 * math.pi)  # over the trained context
    np.testing.assert_allclose(inverse[turns > 33], PLAIN[turns > 33], rtol=1e-12)
    np.testing.assert_allclose(inverse[-1], PLAIN[-1] / 8.0, rtol=1e-12)
    assert (np.diff(inverse) < 0).all()
    assert magnitude == pytest.approx(1 + 0.1 * math.log(8.0))


@pytest.mark.parametrize(("context", "which"), [(1024, "short"), (1025, "long")])
def test_longrope_chooses_by_the_context(context, which):
    divisors = {"short": np.full(8, 2.0, np.float32), "long": np.full(8, 3.0, np.float32)}
    inverse, magnitude = rope.frequencies(scaled(kind="longrope", original_context=1024), context, divisors)
    np.testing.assert_allclose(inverse, PLAIN / divisors[which], rtol=1e-15)
    assert magnitude == pytest.approx(math.sqrt(1 + math.log(4) / math.log(1024)))


def test_longrope_without_one_of_its_tensors():
    with pytest.raises(ModelError, match=r"no tensor 'rope_factors_short\.weight'"):
        rope.frequencies(scaled(kind="longrope", original_context=1024), 512, {"long": np.ones(8, np.float32)})
