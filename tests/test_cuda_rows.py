"""The CUDA kernels between matrices, emulated on this CPU: embedding, rotation tables, gates, the likeliest token."""

import numpy as np
import pytest
from cuda_emulation import (
    KINDS,
    ORDERS,
    Matrix,
    floats,
    width_of,
    words,
)
from kernel_harness import Guarded

from edgellama.op_functions import ACTIVATIONS, soft_capped

LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("kind", KINDS)
def test_embedding(gpu, kind):
    width = width_of(kind, 4200) if kind == "f16" else width_of(kind, 300)
    matrix, ids = Matrix(gpu, kind, 9, width), [8, 0, 3, 3]
    out = Guarded((4, width))
    blocks = (4, -(-matrix.n_blocks // 128), 1)
    gpu.run(f"embed_{kind}", blocks, *matrix.arguments, words(ids), out, width, matrix.n_blocks, 2.0)
    np.testing.assert_allclose(out.values, 2 * matrix.values[ids], rtol=2e-6, atol=2e-6 if kind == "q4_k" else 0)


@pytest.mark.parametrize("magnitude", [1.0, 1.25])
@pytest.mark.parametrize("n_second", [0, 75])
def test_the_table_of_rotations(gpu, magnitude, n_second):
    n_pairs, positions = 150, [0, 1, 255, 4095, 131071]
    frequencies = 10000.0 ** (-np.arange(n_pairs) / n_pairs)
    table = Guarded((5, 2 * n_pairs))
    seconds = [7, 0, 2, 1, 90000]
    places = (Guarded.of(frequencies), words(positions), words(seconds))
    gpu.run("rope_table", 5, *places, table, n_pairs, n_second, magnitude)
    angles = np.multiply.outer(positions, frequencies)
    angles[:, n_pairs - n_second :] = np.multiply.outer(seconds, frequencies[n_pairs - n_second :])
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * magnitude
    np.testing.assert_allclose(table.values, expected, atol=1e-6)


def test_gathering_rows(gpu):
    x = np.random.default_rng(0).standard_normal((6, 700), dtype=np.float32)
    out = Guarded((3, 600))
    gpu.run("gather", 3, floats(x), words([5, 0, 5]), out, 600, 700)
    np.testing.assert_array_equal(out.values, x[[5, 0, 5], :600])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gates_that_no_product_fused(gpu, activation):
    x = np.random.default_rng(0).standard_normal((3, 700), dtype=np.float32) * 4
    x[0, :3] = -200, 200, 0
    out = Guarded((3, 330))
    gpu.run("multiply_silu", 3, floats(x), out, 700, 330, 310, activation)
    expected = ACTIVATIONS[activation](x[:, :310]) * x[:, 310:620]
    np.testing.assert_allclose(out.values[:, :310], expected, rtol=1e-5, atol=1e-5)  # 1 + tanh cancels
    assert np.isnan(out.values[:, 310:]).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_in_place(gpu, activation):
    x = np.random.default_rng(1).standard_normal((2, 300), dtype=np.float32) * 5
    found = floats(x)
    gpu.run("activate", 2, found, 300, 290, activation)
    np.testing.assert_allclose(found.values[:, :290], ACTIVATIONS[activation](x[:, :290]), rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(found.values[:, 290:], x[:, 290:])


def test_soft_cap_in_place(gpu):
    x = np.random.default_rng(1).standard_normal((2, 300), dtype=np.float32) * 50
    found = floats(x)
    gpu.run("soft_cap", 2, found, 300, 290, 30.0)
    np.testing.assert_allclose(found.values[:, :290], soft_capped(x[:, :290], 30.0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.values[:, 290:], x[:, 290:])


@pytest.mark.parametrize("has_bias", [False, True])
def test_norm_with_a_mean(gpu, has_bias):
    random = np.random.default_rng(3)
    x = random.standard_normal((3, 700), dtype=np.float32) + 2
    weight, bias = random.uniform(0.5, 1.5, 600), random.standard_normal(600)
    out = Guarded((3, 650))
    second = floats(bias) if has_bias else None
    gpu.run("layer_norm", 3, floats(x), floats(weight), second, out, 600, 700, 650, 1e-5, shared_bytes=128)
    rows = x[:, :600].astype(np.float64)
    exact = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(out.values[:, :600], exact + (bias if has_bias else 0), atol=1e-5)
    assert np.isnan(out.values[:, 600:]).all()


def test_learned_positions(gpu):
    random = np.random.default_rng(3)
    x, table = random.standard_normal((3, 300), dtype=np.float32), random.standard_normal((9, 300), dtype=np.float32)
    found = floats(x)
    gpu.run("add_positions", 3, found, floats(table), words([8, 0, 3]), 300)
    np.testing.assert_array_equal(found.values, x + table[[8, 0, 3]])


class Chooser:
    """choose_likeliest with a frame of one token at `position`, on logical pages 7, 5, 3."""

    def __init__(self, gpu, position: int = 10, most: int = 768):
        self.gpu, self.most = gpu, most
        self.counter, self.step, self.ring = words([0]), words([6]), words([-1] * 4)
        self.token_ids, self.positions, self.cache_rows = words([99]), words([position]), words([-1])
        self.visible, self.pages = words([0, position + 1]), words([7, 5, 3])

    def run(self, logits: np.ndarray, n_blocks: int = 3, order: int = 0) -> int:
        found = Guarded(2 * n_blocks)
        self.gpu.run(
            "choose_likeliest", n_blocks, floats(logits), len(logits), found, self.counter, self.token_ids,
            self.positions, self.cache_rows, self.visible, self.pages, self.ring, 4, self.step, self.most,
            shared_bytes=256, order=order,
        )  # fmt: skip
        assert self.counter.values[0] == 0
        return int(self.token_ids.values[0])


@pytest.mark.parametrize("n", [1, 33, 5000])
@pytest.mark.parametrize("n_blocks", [1, 5])
def test_the_likeliest_token(gpu, n, n_blocks):
    random = np.random.default_rng(n)
    for best, order in zip((0, n // 2, n - 1), (0, *ORDERS), strict=False):
        logits = random.standard_normal(n).astype(np.float32)
        logits[best] = 9
        assert Chooser(gpu).run(logits, n_blocks, order) == best


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({700: 9, 701: 9, 1900: 9, 40: 9}, 40),  # the first of equals
        ({3: np.nan, 800: np.nan, 500: 9}, 500),  # what is no number is never the highest
        ({0: np.nan, 500: 9}, 500),
        ({500: np.inf, 20: np.inf, 3: -np.inf}, 20),
    ],
    ids=["equals", "nan", "nan first", "infinite"],
)
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_logits_that_are_equal_or_no_numbers(gpu, changes, expected, n_blocks):
    logits = np.random.default_rng(5).standard_normal(2000).astype(np.float32)
    logits[list(changes)] = list(changes.values())
    for order in (0, ORDERS[0]):
        assert Chooser(gpu).run(logits, n_blocks, order) == expected


@pytest.mark.parametrize("value", [-np.inf, np.nan, LOWEST])
def test_logits_of_which_none_is_likely(gpu, value):
    assert Chooser(gpu).run(np.full(2000, value, np.float32)) == 0


def test_the_frame_advances_with_each_token(gpu):
    chooser, logits = Chooser(gpu, position=253), np.zeros(50, np.float32)
    for token, position in ((7, 254), (9, 255), (11, 256), (13, 257)):
        logits[token] = token
        assert chooser.run(logits) == token
        assert chooser.positions.values[0] == position
        assert chooser.cache_rows.values[0] == 256 * (7, 5)[position // 256] + position % 256
        assert chooser.visible.values.tolist() == [0, position + 1]
    assert chooser.step.values[0] == 10
    assert chooser.ring.values.tolist() == [11, 13, 7, 9]  # steps 6 .. 9 in a ring of 4


def test_the_frame_stays_where_there_are_no_more_pages(gpu):
    chooser = Chooser(gpu, position=767)
    assert chooser.run(np.arange(5, dtype=np.float32)) == 4
    assert chooser.positions.values[0] == 767 and chooser.visible.values.tolist() == [0, 768]
    assert chooser.step.values[0] == 7 and chooser.ring.values[2] == 4
