"""Does the GPU compute what the CPU does? Small models of every format on both, and the bundled model's greedy text."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgellama

from .synthesize import Shape, synthesize

TYPES = ("pure:Q4_0", "pure:Q8_0", "pure:Q4_K", "pure:Q6_K", "pure:Q5_K", "pure:F16", "pure:BF16", "pure:F32")
SHAPE = Shape("gpu-check", 512, 2, 4, 2, 768, 1003, tied=False)  # heads of 128, an odd vocabulary
QUESTIONS = ("Who are you?", "What is edgellama?", "How do I get a real model?")
N_TOKENS = 300  # more than a page of the cache


@dataclass(frozen=True)
class Difference:
    """Relative root mean square against the CPU, of a prompt in one step and of tokens one by one; of all positions."""

    type_name: str
    prefill: float
    decode: float
    same_top: float  # share of positions with the same likeliest token


def differences(device: str) -> Iterator[Difference]:
    """For every type in turn."""
    ids = np.random.default_rng(7).integers(5, SHAPE.n_vocabulary, N_TOKENS).tolist()
    with tempfile.TemporaryDirectory() as folder:
        for type_name in TYPES:
            path = synthesize(SHAPE, type_name, Path(folder) / "model.gguf", seed=3)
            with edgellama.load(path, context=512) as cpu:
                expected = cpu.logits(ids)
            with edgellama.load(path, device=device, context=512) as gpu:
                prefill, decode = gpu.logits(ids), _one_by_one(gpu, ids)
            same = float(np.mean(prefill.argmax(1) == expected.argmax(1)))
            yield Difference(type_name.removeprefix("pure:"), _rms(prefill, expected), _rms(decode, expected), same)


def _one_by_one(model: edgellama.Model, ids: list[int]) -> np.ndarray:
    with model.new_session() as session:
        return np.array([session.decode(token_id) for token_id in ids])


def _rms(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def same_texts(device: str) -> dict[str, bool]:
    """{question: whether the bundled model's greedy answer is the CPU's}."""
    with edgellama.load() as cpu, edgellama.load(device=device) as gpu:
        return {question: _answer(cpu, question) == _answer(gpu, question) for question in QUESTIONS}


def _answer(model: edgellama.Model, question: str) -> str:
    return "".join(model.chat([{"role": "user", "content": question}], temperature=0, max_tokens=200))
