"""A story that a small trained model tells: the same text for every thread count, layout, cache and instruction set.

With a float32 cache its smallest margin is far larger than anything that rounding does to the logits (`bench.perturb`),
so it is the same by design.
"""

from pathlib import Path

import numpy as np
import pytest
from model_files import relative_rms

import edgellama
from bench.perturb import FIRM, firmness
from edgellama.simd.detect import executable_isas

LARGEST_DIFFERENCE = {"f32": 1e-3, "f16": 0.03}  # of a logit, by cache type


@pytest.fixture(scope="module")
def story(shared_data) -> Path:
    return shared_data / "trained" / "stories260K"


@pytest.fixture(scope="module")
def expected(story):
    with np.load(story / "expected_story.npz") as arrays:
        return dict(arrays)


def told(path: Path, **options) -> tuple[list[int], str]:
    """Ids and text of the greedy story."""
    with edgellama.load(path / "f32.gguf", **options) as model:
        text = "".join(model.generate([1], 256, temperature=0))
        return model.last_stats.ids, text


@pytest.mark.parametrize("kv_type", ["f32", "f16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_story(story, expected, threads, kv_type):
    ids, text = told(story, threads=threads, kv_type=kv_type)
    assert len(ids) >= 200
    assert [1, *ids] == expected["ids"].tolist()
    assert text == (story / "expected_story.txt").read_text()


def test_story_from_the_files_own_layout(story, expected):
    assert [1, *told(story, repack=False, kv_type="f32")[0]] == expected["ids"].tolist()


@pytest.mark.slow  # compiles the kernels of every instruction set
@pytest.mark.isa
@pytest.mark.parametrize("isa", executable_isas())
def test_story_on_every_instruction_set(story, expected, isa, monkeypatch):
    monkeypatch.setenv("EDGELLAMA_ISA", isa)
    assert [1, *told(story, kv_type="f32")[0]] == expected["ids"].tolist()


def test_story_is_firm(story):
    found = firmness(story / "f32.gguf", [1], 256, kv_type="f32")
    assert found.ratio >= FIRM


@pytest.mark.parametrize("kv_type", list(LARGEST_DIFFERENCE))
def test_logits_of_every_position(story, expected, kv_type):
    with edgellama.load(story / "f32.gguf", kv_type=kv_type) as model:
        logits = model.logits(expected["ids"])
    assert logits.shape == expected["logits"].shape
    assert np.abs(logits - expected["logits"]).max() < LARGEST_DIFFERENCE[kv_type]


@pytest.mark.parametrize("repack", [True, False])
def test_logits_with_a_q8_0_cache(story, expected, repack):
    with edgellama.load(story / "f32.gguf", kv_type="q8_0", repack=repack) as model:
        logits = model.logits(expected["ids"])
        assert len(list(model.generate([1], 256, temperature=0))) == 256
    assert relative_rms(logits, expected["logits"]) < 0.02


def test_margins_of_the_story(story, expected):
    """The expected margins are those of our own logits: the second likeliest token is right as well."""
    with edgellama.load(story / "f32.gguf", kv_type="f32") as model:
        top = np.sort(model.logits(expected["ids"]), axis=1)[:, -2:]
    np.testing.assert_allclose(top[:, 1] - top[:, 0], expected["margin"], atol=2e-3)
