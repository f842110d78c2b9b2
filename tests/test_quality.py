"""How far the logits of quantized models are from those of their decoded weights, beside llama.cpp's distance.

The reference data hold, for files that llama-quantize wrote, the float32 logits of the decoded weights (`exact`) and
llama.cpp's own (`lcpp`). One rounding that flips moves all logits, so the figure is the median over one-ulp
perturbations of the embeddings. The cache is F16, llama.cpp's default.
"""

from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_DATA
from model_files import relative_rms

import edgellama
from bench.perturb import perturbed_copies

FAST = {"Q4_0", "Q4_1", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "BF16"}  # made of types with kernels of their own
BARS = {"stories260K": {True: 1.25, False: 1.5}, "llama2-gqa": {True: 1.05, False: 1.15}}  # by whether it is fast
PERTURBATIONS = 8
KV_TYPE = "f16"
FILES = sorted(SHARED_DATA.glob("quantized/*/*.gguf"))

# A Q8_0 cache adds its own error. These are relative rms, a third above what was measured (0.015 and 0.064).
LARGEST_WITH_Q8_0_CACHE = {"stories260K": 0.02, "llama2-gqa": 0.085}


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def references(path: Path) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Token ids, exact logits and llama.cpp's of the model beside them."""
    with np.load(path.with_suffix(".npz")) as arrays:
        return arrays["input_ids"].tolist(), arrays["exact"], arrays["lcpp"]


def median_error(path: Path, folder: Path, **options) -> float:
    ids, exact, _ = references(path)
    errors = []
    for copy in perturbed_copies(path, folder, PERTURBATIONS):
        with edgellama.load(copy, threads=1, **options) as model:
            errors.append(relative_rms(model.logits(ids), exact))
    return float(np.median(errors))


def test_reference_files_are_there(shared_data):
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_error_is_no_larger_than_that_of_llama_cpp(path, tmp_path):
    _, exact, theirs = references(path)
    bar = BARS[path.parent.name][path.stem in FAST]
    assert median_error(path, tmp_path, kv_type=KV_TYPE) <= bar * relative_rms(theirs, exact)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_layouts_agree(path):
    """Computing from the file's own layout differs from the packed one by roundings that flip, not by more."""
    ids, exact, theirs = references(path)
    logits = {}
    for repack in (True, False):
        with edgellama.load(path, threads=1, kv_type=KV_TYPE, repack=repack) as model:
            logits[repack] = model.logits(ids)
    bar = BARS[path.parent.name][False]
    assert relative_rms(logits[False], exact) <= bar * relative_rms(theirs, exact)
    assert relative_rms(logits[False], logits[True]) <= relative_rms(theirs, exact)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_q8_0_cache_costs_little(path):
    ids, exact, _ = references(path)
    with edgellama.load(path, threads=1, kv_type="q8_0") as model:
        assert relative_rms(model.logits(ids), exact) <= LARGEST_WITH_Q8_0_CACHE[path.parent.name]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_greedy_choice_where_the_margin_is_large(path):
    """Where the likeliest token leads by more than any logit is wrong, it is ours too."""
    ids, exact, _ = references(path)
    with edgellama.load(path, threads=1) as model:
        logits = model.logits(ids)
    top = np.sort(exact, axis=1)[:, -2:]
    clear = top[:, 1] - top[:, 0] > 2 * np.abs(logits - exact).max(axis=1)
    assert clear.sum() >= 5
    assert (logits.argmax(axis=1) == exact.argmax(axis=1))[clear].all()
