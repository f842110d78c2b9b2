"""GGUF models with something changed, for the tests of whole models. Files are written by the gguf package."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="the gguf package writes the models of this test")

from bench.perturb import StoredTensor, copy_model, unchanged  # noqa: E402 - needs gguf


def relative_rms(values: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of the difference over that of `exact`."""
    return float(np.sqrt(np.mean((values - exact) ** 2, dtype=np.float64) / np.mean(exact**2, dtype=np.float64)))


def with_tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[StoredTensor], Iterator]:
    """For copy_model: the stored values (bytes, for blocks) of one tensor go through `change`."""

    def apply(tensor: StoredTensor) -> Iterator[StoredTensor]:
        yield tensor._replace(data=change(tensor.data.copy())) if tensor.name == name else tensor

    return apply


def without_tensor(name: str) -> Callable[[StoredTensor], Iterator]:
    """For copy_model: one tensor is left out."""

    def apply(tensor: StoredTensor) -> Iterator[StoredTensor]:
        if tensor.name != name:
            yield tensor

    return apply


def with_twin(name: str, twin: str) -> Callable[[StoredTensor], Iterator]:
    """For copy_model: a copy of one tensor stands under a second name."""

    def apply(tensor: StoredTensor) -> Iterator[StoredTensor]:
        yield tensor
        if tensor.name == name:
            yield tensor._replace(name=twin)

    return apply


def with_metadata(source: Path, target: Path, **values) -> Path:
    """A copy with other metadata: `llama__context_length=64` stands for llama.context_length; None drops the key."""
    return copy_model(source, target, unchanged, {key.replace("__", "."): value for key, value in values.items()})
