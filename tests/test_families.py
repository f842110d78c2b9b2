"""Families: checkpoints of random weights, converted here, against the logits that other implementations gave for them.

Folders with a checkpoint and an `expected.npz` lie in ../shared/data/models; EDGELLAMA_REFERENCE_MODELS names a folder
of more, as its make_refs.py makes them.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from model_files import relative_rms

import edgellama
from converters.conversion import ConvertOptions, plan_conversion, write_conversion
from edgellama.model import Model

SHARED_MODELS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "models"
MORE_MODELS = os.environ.get("EDGELLAMA_REFERENCE_MODELS", "")
NO_FAMILY = ("baichuan-13b", "baichuan-7b", "chatglm1", "chatglm2", "moss", "opt-125m-style")
EXPERTS = ("mixtral", "qwen2-moe", "qwen3-moe", "gpt-oss-bf16", "gpt-oss-mxfp4")
TOLERANCE = 2e-3


def folders() -> Iterator[Path]:
    for root in filter(None, (SHARED_MODELS, MORE_MODELS)):
        for path in sorted(Path(root).glob("*/expected.npz")):
            if path.parent.name not in (*NO_FAMILY, *EXPERTS):
                yield path.parent


class Reference(NamedTuple):
    """A prompt and its greedy continuation: ids (n,), and float32 logits (n, vocab) of what follows each of them."""

    ids: list[int]
    logits: np.ndarray
    greedy: list[int]

    @property
    def margins(self) -> np.ndarray:
        """How far the likeliest token is ahead of the next, (n,)."""
        ordered = np.sort(self.logits, axis=1)
        return ordered[:, -1] - ordered[:, -2]


def read_reference(folder: Path) -> Reference:
    expected = np.load(folder / "expected.npz")
    prompt, greedy = expected["input_ids"].tolist(), expected["greedy_ids"].tolist()
    logits = np.concatenate([expected["logits"], expected["greedy_logits"][1:]])
    return Reference(prompt + greedy[:-1], logits, greedy)


@pytest.fixture(scope="module", params=list(folders()) or [None], ids=lambda path: path.name if path else "none")
def folder(request) -> Path:
    if request.param is None:
        pytest.skip("../shared/data is not there, and EDGELLAMA_REFERENCE_MODELS names no folder")
    return request.param


@pytest.fixture(scope="module")
def reference(folder) -> Reference:
    return read_reference(folder)


@pytest.fixture(scope="module")
def load(folder, tmp_path_factory) -> Callable[..., Model]:
    """The checkpoint as a model whose weights are of a type."""
    target = tmp_path_factory.mktemp("families")

    def make(type_name: str, **options) -> Model:
        path = target / f"{type_name}.gguf"
        if not path.exists():
            write_conversion(plan_conversion(folder, ConvertOptions(type_name)), path)
        return edgellama.load(path, threads=1, **options)

    return make


def test_logits_and_greedy_continuation(load, reference):
    with load("f32", kv_type="f32") as model:
        found = model.logits(reference.ids)
        with model.new_session() as session:
            stepped = np.stack([session.decode(token_id) for token_id in reference.ids])
    assert np.abs(found - reference.logits).max() < TOLERANCE
    assert found[-len(reference.greedy) :].argmax(axis=1).tolist() == reference.greedy
    np.testing.assert_array_equal(stepped, found)


@pytest.mark.parametrize(("type_name", "largest_error"), [("q8_0", 0.15), ("q4_k_m", 0.8)])
def test_quantized(load, reference, type_name, largest_error):
    """Near the exact logits; where those leave no doubt, with the same choice."""
    with load(type_name) as model:
        found = model.logits(reference.ids)
    assert relative_rms(found, reference.logits) < largest_error
    error = np.sqrt(np.mean((found - reference.logits) ** 2))
    certain = reference.margins > 6 * error
    assert (found.argmax(axis=1) == reference.logits.argmax(axis=1))[certain].all()
