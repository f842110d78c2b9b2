"""Types for a size: hulls, spending, and that the result is small enough and better than one type for all."""

import itertools
from math import prod

import numpy as np
import pytest

import edgellama
from edgellama import formats
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf
from quant import budget
from quant.budget import Choice, candidates_for, choose_for_size, file_type_of, lower_hull, spend
from quant.encoders import encode_rows
from quant.importance import ImportanceMatrix
from quant.plan import plan_recipe, plan_types
from quant.quantizer import write_quantized
from quant.recipes import recipe_named


def test_hull_keeps_what_some_price_would_buy():
    choices = [Choice("a", 10, 9.0), Choice("b", 20, 5.0), Choice("c", 30, 4.5), Choice("d", 40, 1.0)]
    worse, dear = Choice("e", 25, 6.0), Choice("f", 50, 1.0)
    # c is above the line from b to d; e and f cost more than b and d and are no better
    assert [choice.type_name for choice in lower_hull([dear, *choices, worse])] == ["a", "b", "d"]


def test_spending_follows_the_largest_gain_per_byte():
    hulls = {
        "x": [Choice("small", 10, 10.0), Choice("large", 20, 2.0)],  # 0.8 a byte
        "y": [Choice("small", 10, 10.0), Choice("large", 14, 6.0), Choice("huge", 30, 5.0)],  # 1 a byte, then 1/16
    }
    assert spend(hulls, 20) == {"x": "small", "y": "small"}
    assert spend(hulls, 24) == {"x": "small", "y": "large"}
    assert spend(hulls, 34) == {"x": "large", "y": "large"}
    assert spend(hulls, 50) == {"x": "large", "y": "huge"}
    assert spend(hulls, 10**9) == {"x": "large", "y": "huge"}


def test_spending_is_the_best_of_all_choices_at_its_size():
    rng = np.random.default_rng(0)
    for _ in range(20):
        hulls = {}
        for name in "abcd":
            sizes, errors = np.cumsum(rng.integers(1, 50, 5)), np.sort(rng.uniform(0, 9, 5))[::-1]
            hulls[name] = lower_hull(Choice(str(i), int(sizes[i]), float(errors[i])) for i in range(5))
        least = sum(hull[0].n_bytes for hull in hulls.values())
        chosen = spend(hulls, least + 60)
        picked = [next(c for c in hulls[name] if c.type_name == chosen[name]) for name in hulls]
        size, error = sum(c.n_bytes for c in picked), sum(c.error for c in picked)
        assert size <= least + 60
        same_size = [c for c in itertools.product(*hulls.values()) if sum(choice.n_bytes for choice in c) <= size]
        # greedy steps that do not fit are skipped, which may cost a little
        assert error <= 1.3 * min(sum(choice.error for choice in c) for c in same_size)


@pytest.mark.parametrize("bits", [3.0, 4.5, 6.3])
def test_the_size_is_kept_and_errors_are_below_those_of_one_type(synthetic_model, bits):
    with open_gguf(synthetic_model("F16")) as source:
        tensors = list(source.tensors.values())
        n_bytes = int(bits * sum(prod(tensor.shape) for tensor in tensors) / 8)
        types = choose_for_size(source, n_bytes, n_threads=2)
        total = sum(prod(t.shape[:-1]) * formats.by_name(types[t.name]).row_bytes(t.shape[-1]) for t in tensors)
        assert 0.9 * n_bytes < total <= n_bytes
        matrices = [tensor for tensor in tensors if len(tensor.shape) == 2]
        chosen = sum(normalized_error(tensor, types[tensor.name]) for tensor in matrices)
        below = {3.0: "q2_k", 4.5: "q3_k", 6.3: "q5_k"}[bits]  # the next pure type that is as small
        assert chosen < sum(normalized_error(tensor, below) for tensor in matrices)


def normalized_error(tensor, type_name: str) -> float:
    """Of the whole matrix, each value divided by the root mean square of all."""
    rows = formats.by_id(tensor.type_id).decode_rows(tensor.data, tensor.shape[-1])
    decoded = formats.by_name(type_name).decode_rows(encode_rows(type_name, rows).reshape(-1), rows.shape[1])
    return float(np.square(decoded - rows).sum() / np.square(rows).mean())


def test_errors_are_weighted_by_importance(synthetic_model):
    name, columns = "blk.0.attn_k.weight", np.exp(np.random.default_rng(0).standard_normal(256))
    with open_gguf(synthetic_model("F16")) as source:
        importance = ImportanceMatrix(source.path, {name: columns})
        hull = budget.measure_types(source.tensors[name], importance, weight=3.0)
        rows = formats.by_name("f16").decode_rows(source.tensors[name].data, 256)
    for choice in hull[:-1]:
        encoded = encode_rows(choice.type_name, rows, columns)
        decoded = formats.by_name(choice.type_name).decode_rows(encoded.reshape(-1), 256)
        expected = (columns * np.square(decoded - rows)).sum() / (columns * np.square(rows)).sum()
        assert choice.error == pytest.approx(3.0 * rows.size * expected, rel=1e-4)
        assert choice.n_bytes == encoded.size


def test_too_small_is_one_sentence(synthetic_model):
    sentence = r"do not fit in 1,000 bytes; the least that can be reached is \d"
    with open_gguf(synthetic_model("F16")) as source, pytest.raises(EdgellamaError, match=sentence):
        choose_for_size(source, 1000)


@pytest.mark.parametrize(
    ("n_columns", "expected"),
    [
        (256, ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "f16")),
        (96, ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16")),
        (172, ("f16",)),
    ],
)
def test_candidates_fit_the_rows(n_columns, expected):
    assert candidates_for(n_columns) == expected


def test_file_type_is_that_of_most_values(synthetic_model):
    with open_gguf(synthetic_model("F16")) as source:
        types = {name: "q4_k" if "ffn" in name else "q8_0" for name in source.tensors}
        assert file_type_of(types, source) == 15  # Q4_K_M
        assert file_type_of(dict.fromkeys(types, "q6_k"), source) == 18


def test_a_sample_is_spread_over_the_rows(synthetic_model, monkeypatch):
    monkeypatch.setattr(budget, "SAMPLE_VALUES", 256 * 16)
    with open_gguf(synthetic_model("F16")) as source:
        tensor = source.tensors["token_embd.weight"]
        first_rows = [piece.first_row for piece, _ in budget.sample_rows(tensor)]
    assert len(first_rows) == 8 and max(first_rows) > 0.8 * tensor.shape[0] and min(first_rows) < 0.2 * tensor.shape[0]


def test_measured_types_lose_less_than_the_recipe_of_the_same_size(shared_data, tmp_path):
    """Kullback-Leibler divergence from the original on a trained model, whose rows only take 32-value blocks."""
    path = shared_data / "trained" / "stories260K" / "f32.gguf"
    ids = np.load(shared_data / "trained" / "stories260K" / "expected_story.npz")["ids"][:200].tolist()
    divergences = {}
    with open_gguf(path) as source:
        by_recipe = plan_recipe(source, recipe_named("Q4_0"))
        types = choose_for_size(source, by_recipe.n_bytes)
        by_size = plan_types(source, types, file_type_of(types, source))
        assert by_size.n_bytes <= by_recipe.n_bytes
        for name, plan in (("recipe", by_recipe), ("size", by_size)):
            write_quantized(source, tmp_path / f"{name}.gguf", plan.jobs, plan.keys, 2)
            divergences[name] = divergence(path, tmp_path / f"{name}.gguf", ids)
    assert divergences["size"] < 0.9 * divergences["recipe"]


def divergence(original, other, ids) -> float:
    log_probabilities = []
    for path in (original, other):
        with edgellama.load(path) as model:
            logits = model.logits(ids).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_probabilities.append(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    p, q = log_probabilities
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())
