"""Products with packed matrices of every format, packed by the pack kernel, against NumPy on identical inputs.

The reference multiplies what the integers of both sides stand for in float64; a product may differ by the rounding
of its own sum: terms x epsilon x (|x| . |w|). One row and many rows must agree bit for bit.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from kernel_harness import (
    Guarded,
    Machine,
    decode_panels,
    float_panels,
    pack,
    panel_tokens,
    quantized_panels,
    random_weights,
    simple_frame,
)

from edgellama import formats, reference
from edgellama.compiler import load_kernels
from edgellama.cpu.layout import SCALE, unpacked_scratch_bytes
from edgellama.cpu.packing import ALWAYS_PACKED, LAYOUTS
from edgellama.ops import ADD, MATMUL, STORE, SWIGLU

FLOATS = ("f32", "f16", "bf16")
BLOCKS = tuple(name for name in LAYOUTS if name not in ALWAYS_PACKED)  # test_fp8.py has the others
INTEGERS = tuple(name for name in BLOCKS if name not in FLOATS)
TOKENS = (1, 2, 3, 4, 5, 6, 7, 12, 13)
ROWS = (1, 15, 16, 17, 33, 100)
EPSILON = 2.0**-23


@pytest.fixture(scope="module")
def kernels():
    return load_kernels()


def columns_of(name: str) -> int:
    """Three blocks; floats take any number."""
    return 35 if name in FLOATS else 3 * formats.by_name(name).block_values


@dataclass(frozen=True)
class Activations:
    """Rows as products with one format read them, and the float64 values (n_tokens, n_columns) they stand for."""

    panels: Guarded
    values: np.ndarray


def prepared(kernels, name: str, x: np.ndarray) -> Activations:
    n_rows, width = x.shape
    if name in FLOATS:
        return Activations(float_panels(kernels, Guarded.of(x)), x.astype(np.float64))
    panels = quantized_panels(kernels, Guarded.of(x))
    codes, fields = decode_panels(panels.values, width, n_rows, panel_tokens(kernels, n_rows))
    scales = fields.view(np.float32)[..., SCALE, None].astype(np.float64)
    return Activations(panels, (codes.reshape(n_rows, -1, 32) * scales).reshape(n_rows, width))


def random_activations(n_tokens: int, n_columns: int) -> np.ndarray:
    return np.random.default_rng(n_columns).standard_normal((n_tokens, n_columns), dtype=np.float32)


def kernel_names(name: str) -> tuple[str, str, str]:
    """For one row, few and many."""
    scaling = LAYOUTS[name].product
    few = "gemm_float" if scaling == "float" else f"few_{name}"
    return f"matvec_{name}", few, f"gemm_{scaling}"


def product(
    kernels, name: str, matrices, x: Activations, *, mode=STORE, bias=None, start=None, n_workers=1, column=0, pitch=0
) -> np.ndarray:
    """What the packed matrix, or two of them interleaved, makes of x: columns `column`.. of rows `pitch` wide."""
    (n_tokens, n_columns), (n_rows, row_bytes) = x.values.shape, matrices[0].shape
    scratch_bytes = unpacked_scratch_bytes(n_columns, kernels.target.tile_tokens, name in FLOATS)
    machine = Machine(kernels, simple_frame(n_tokens), n_workers, scratch_bytes)
    out = Guarded((n_tokens, pitch or n_rows))
    place = out.values[:, column : column + n_rows]
    if start is not None:
        place[:] = start
    operands = {"weight": pack(kernels, name, *matrices), "x": x.panels, "out": place, "bias": bias}
    sizes = {"n_rows": len(matrices) * n_rows, "n_columns": n_columns, "row_bytes": row_bytes, "scale_columns": 0}
    sizes |= {"pitch": pitch or n_rows, "mode": mode}
    machine.run(machine.bind(MATMUL, operands, sizes, kernels=kernel_names(name), helper=f"unpack_{name}"))
    beside = np.delete(out.check(), np.s_[column : column + n_rows], axis=1)
    assert np.isnan(beside).all(), "columns beside the product were written"
    return place


def expected(name: str, matrix: np.ndarray, x: Activations) -> tuple[np.ndarray, np.ndarray]:
    """x by the decoded matrix, and how far a float32 sum may be from it."""
    n_columns = x.values.shape[1]
    weights = formats.by_name(name).decode_rows(matrix, n_columns).astype(np.float64)
    bound = (n_columns // 32 + 8) * EPSILON * (np.abs(x.values) @ np.abs(weights.T))
    return x.values @ weights.T, bound + 1e-30


def assert_within(got: np.ndarray, wanted: np.ndarray, bound: np.ndarray) -> None:
    excess = np.abs(got - wanted) - bound
    assert (excess <= 0).all(), f"{(excess > 0).sum()} of {got.size} values are off, by up to {np.nanmax(excess)}"


@pytest.mark.parametrize("n_rows", ROWS)
@pytest.mark.parametrize("name", BLOCKS)
def test_products_of_one_row_and_many(kernels, name, n_rows):
    matrix, rows = random_weights(name, n_rows, columns_of(name)), random_activations(max(TOKENS), columns_of(name))
    singles = [product(kernels, name, [matrix], prepared(kernels, name, rows[i : i + 1])) for i in range(len(rows))]
    for n_tokens in TOKENS:
        x = prepared(kernels, name, rows[:n_tokens])
        out = product(kernels, name, [matrix], x)
        assert_within(out, *expected(name, matrix, x))
        np.testing.assert_array_equal(out, np.concatenate(singles[:n_tokens]))


@pytest.mark.parametrize("n_rows", (1, 15, 16, 17, 33))
@pytest.mark.parametrize("name", BLOCKS)
def test_gate_and_up_interleaved(kernels, name, n_rows):
    pair = [random_weights(name, n_rows, columns_of(name), seed) for seed in (1, 2)]
    rows = random_activations(13, columns_of(name))
    for n_tokens in (1, 2, 7, 13):
        x = prepared(kernels, name, rows[:n_tokens])
        out = product(kernels, name, pair, x, mode=SWIGLU, column=2, pitch=n_rows + 5)
        (gate, gate_bound), (up, up_bound) = (expected(name, matrix, x) for matrix in pair)
        silu = reference.silu(gate)
        bound = 1.1 * np.abs(up) * gate_bound + np.abs(silu) * up_bound + 8 * EPSILON * np.abs(silu * up)
        assert_within(out, silu * up, bound)
        np.testing.assert_array_equal(out[0], one_row(kernels, name, pair, rows[:1]))


def one_row(kernels, name: str, pair, row: np.ndarray) -> np.ndarray:
    return product(kernels, name, pair, prepared(kernels, name, row), mode=SWIGLU)[0]


@pytest.mark.parametrize("n_tokens", (1, 2, 7))
@pytest.mark.parametrize("name", BLOCKS)
def test_bias_and_addition(kernels, name, n_tokens):
    """Bias and residual are one float addition each, into a part of wider rows."""
    random, n_rows = np.random.default_rng(3), 41
    matrices = [random_weights(name, n_rows, columns_of(name))]
    x = prepared(kernels, name, random_activations(n_tokens, columns_of(name)))
    bias = random.standard_normal(n_rows, dtype=np.float32)
    start = random.standard_normal((n_tokens, n_rows), dtype=np.float32)
    plain = product(kernels, name, matrices, x)
    place = {"column": 3, "pitch": n_rows + 10}
    cases = (
        ({"bias": bias}, plain + bias),
        ({"mode": ADD, "start": start}, plain + start),
        ({"mode": ADD, "start": start, "bias": bias}, (plain + bias) + start),
    )
    for options, wanted in cases:
        np.testing.assert_array_equal(product(kernels, name, matrices, x, **place, **options), wanted)


@pytest.mark.parametrize("n_tokens", (1, 9))
@pytest.mark.parametrize("name", BLOCKS)
def test_two_workers_give_the_same_bits(kernels, name, n_tokens):
    matrices = [random_weights(name, 333, columns_of(name))]
    x = prepared(kernels, name, random_activations(n_tokens, columns_of(name)))
    alone, together = (product(kernels, name, matrices, x, n_workers=n_workers) for n_workers in (1, 2))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("n_tokens", (1, 8))
@pytest.mark.parametrize("name", INTEGERS)
def test_the_largest_codes_do_not_saturate(kernels, name, n_tokens):
    """Weights of only smallest or largest codes, activations of only -127 and 127."""
    n_columns = columns_of(name)
    matrix = random_weights(name, 64, n_columns)
    blocks = matrix.reshape(-1).view(formats.by_name(name).dtype)
    for field in set(blocks.dtype.names) - {"scale", "offset", "minimum_scale"}:
        extremes = np.array([0x00, 0xFF, 0x7F, 0x80], np.uint8).view(blocks[field].dtype)
        shape = (-1, *[1] * (blocks[field].ndim - 1))
        blocks[field] = extremes[np.arange(len(blocks)) // 3 % 4].reshape(shape)
    signs = np.random.default_rng(4).choice(np.array([-1, 1], np.float32), (n_tokens, n_columns))
    signs[0] = 1
    signs[-1] = -1
    x = prepared(kernels, name, signs)
    assert_within(product(kernels, name, [matrix], x), *expected(name, matrix, x))


def packed_by_numpy(name: str, matrix: np.ndarray) -> np.ndarray:
    """Groups of 32 rows: per block the words of rows 0-15, of rows 16-31, then the units; missing rows are zeros."""
    form = LAYOUTS[name]
    blocks = matrix.reshape(len(matrix), -1, form.block_bytes)
    n_blocks, n_groups = blocks.shape[1], -(-len(matrix) // 32)
    n_words = len(form.words)
    codes = np.concatenate([blocks[..., at : at + 4] for at in form.words] or [blocks[..., :0]], axis=-1)
    words = np.zeros((n_groups * 32, n_blocks, n_words), np.uint32)
    words[: len(matrix)] = codes.view(np.uint32) ^ np.uint32(form.mask)
    words = words.reshape(n_groups, 2, 16, n_blocks, n_words).transpose(0, 3, 1, 4, 2)
    parts = [np.ascontiguousarray(words).view(np.uint8).reshape(n_groups, n_blocks, -1)]
    if form.unit_offset >= 0:
        units = np.zeros((n_groups * 32, n_blocks, 2), np.uint8)
        units[: len(matrix)] = blocks[..., form.unit_offset : form.unit_offset + 2]
        parts.append(units.reshape(n_groups, 32, n_blocks, 2).transpose(0, 2, 1, 3).reshape(n_groups, n_blocks, -1))
    return np.concatenate(parts, axis=2).reshape(-1)


@pytest.mark.parametrize("n_rows", (1, 15, 16, 17, 32, 70))
@pytest.mark.parametrize("name", BLOCKS)
def test_packing_moves_bits_and_fills_groups_with_zeros(kernels, name, n_rows):
    larger = random_weights(name, n_rows + 1, columns_of(name))  # the row behind the matrix must not show
    matrix = larger[:n_rows]
    np.testing.assert_array_equal(pack(kernels, name, matrix).check(), packed_by_numpy(name, matrix))
