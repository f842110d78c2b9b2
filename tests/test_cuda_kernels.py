"""Every CUDA kernel, emulated on this CPU, against NumPy: products, and what packs and prepares their operands."""

import numpy as np
import pytest
from cuda_emulation import (
    KINDS,
    ORDERS,
    Matrix,
    floats,
    width_of,
)
from cuda_planes import unpacked
from kernel_harness import Guarded

from edgellama.cuda import plan, steps
from edgellama.cuda.weights import FORMATS
from edgellama.op_functions import quantized, rms_normalized, silu
from edgellama.ops import ADD, STORE, SWIGLU

EPSILON = 1e-5
VECTOR_SHAPES = [(1, 256), (37, 1280), (70, 2304)]
ODD_WIDTHS = {"q4_0": 1056, "q8_0": 1056, "f16": 1000, "bf16": 999, "f32": 131, "fp8_e4m3": 300, "fp8_e5m2": 1004}


def matvec_bytes(matrix: Matrix) -> int:
    """Shared memory of a product with one row."""
    return matrix.n_blocks * (48 if FORMATS[matrix.kind].is_integer else 128) + 128


def as_multiplied(kind: str, x: np.ndarray) -> np.ndarray:
    """Rows of activations as the kernels of a kind round them; their width is padded where it must be."""
    if not FORMATS[kind].is_integer:
        return x
    padding = -x.shape[-1] % 32
    return quantized(np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, padding)]))[..., : x.shape[-1]]


def assert_sums(found: np.ndarray, left: np.ndarray, right: np.ndarray, expected=None, tolerance: float = 2e-6) -> None:
    """left (n, k) times right (m, k) transposed, up to what float32 sums of these terms may be off."""
    exact = left.astype(np.float64) @ right.astype(np.float64).T if expected is None else expected
    bound = tolerance * (np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64).T) + 1e-30
    assert np.isfinite(found).all()
    worst = np.max(np.abs(found - exact) / bound)
    assert worst <= 1, f"off by {worst:.3g} times what sums may be off"


class Product:
    """A matrix and one row of activations."""

    def __init__(self, gpu, kind: str, n_rows: int, n_columns: int, seed: int = 0):
        random = np.random.default_rng(seed)
        self.gpu, self.kind, self.matrix = gpu, kind, Matrix(gpu, kind, n_rows, n_columns, seed)
        self.x = random.standard_normal(n_columns, dtype=np.float32)
        self.norm = random.uniform(0.5, 1.5, n_columns).astype(np.float32)
        self.bias = random.standard_normal(n_rows, dtype=np.float32)
        self.before = random.standard_normal(n_rows, dtype=np.float32)

    def run(self, with_norm=False, with_bias=False, mode=STORE, n_blocks=2, order=0) -> np.ndarray:
        matrix, out = self.matrix, Guarded(self.matrix.n_rows)
        if mode == ADD:
            out.values[:] = self.before
        norm, bias = floats(self.norm) if with_norm else None, floats(self.bias) if with_bias else None
        self.gpu.run(
            f"matvec_{self.kind}", n_blocks, *matrix.arguments, floats(self.x), norm, bias, out, matrix.n_rows,
            matrix.n_columns, mode, EPSILON, shared_bytes=matvec_bytes(matrix), order=order,
        )  # fmt: skip
        return out.check()

    def run_gated(self, n_blocks=2, order=0) -> np.ndarray:
        matrix, out = self.matrix, Guarded(self.matrix.n_rows // 2)
        self.gpu.run(
            f"gated_{self.kind}", n_blocks, *matrix.arguments, floats(self.x), floats(self.norm), out, matrix.n_rows,
            matrix.n_columns, EPSILON, shared_bytes=matvec_bytes(matrix), order=order,
        )  # fmt: skip
        return out.check()

    def check(self, found: np.ndarray, with_norm=False, with_bias=False, mode=STORE) -> None:
        x = rms_normalized(self.x, self.norm, EPSILON) if with_norm else self.x
        x = as_multiplied(self.kind, x)
        extra = (self.bias if with_bias else 0) + (self.before if mode == ADD else 0)
        values = self.matrix.values
        exact = values.astype(np.float64) @ x.astype(np.float64) + extra
        assert_sums(found[:, None], values, x[None], exact[:, None], tolerance=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_times_one_row(gpu, kind):
    product = Product(gpu, kind, 37, width_of(kind, 1280))
    product.check(product.run())


@pytest.mark.parametrize("kind", ["q8_0", "f16"])
def test_one_row_with_norm_bias_and_what_was_there(gpu, kind):
    product = Product(gpu, kind, 5, 1280)
    for with_norm, with_bias, mode in ((True, False, STORE), (False, True, STORE), (True, True, ADD)):
        product.check(product.run(with_norm, with_bias, mode), with_norm, with_bias, mode)


@pytest.mark.parametrize(("kind", "n_columns"), ODD_WIDTHS.items())
def test_widths_that_do_not_fill_the_warps(gpu, kind, n_columns):
    product = Product(gpu, kind, 3, n_columns)
    product.check(product.run(with_norm=True), with_norm=True)


@pytest.mark.parametrize("kind", KINDS)
def test_gates(gpu, kind):
    """Rows 2 r of the matrix are gates, rows 2 r + 1 what they let through."""
    product = Product(gpu, kind, 74, width_of(kind, 800))
    found = product.run_gated()
    x = as_multiplied(kind, rms_normalized(product.x, product.norm, EPSILON))
    both = (product.matrix.values.astype(np.float64) @ x.astype(np.float64)).astype(np.float32)
    gate, up = both[0::2], both[1::2]
    slack = 1e-5 * (np.abs(product.matrix.values) @ np.abs(x))  # of gate and up; silu's slope is below 1.1
    bound = 1.1 * slack[0::2] * np.abs(up) + np.abs(silu(gate)) * slack[1::2] + slack[0::2] * slack[1::2]
    assert (np.abs(found - silu(gate) * up) <= bound + 1e-6 * np.abs(gate * up)).all()


@pytest.mark.parametrize("kind", ["q4_k", "bf16"])
def test_products_do_not_depend_on_the_order_of_threads(gpu, kind):
    product = Product(gpu, kind, 38, 1280)
    expected, gated = product.run(True, True, ADD), product.run_gated()
    for order in ORDERS:
        np.testing.assert_array_equal(product.run(True, True, ADD, order=order), expected)
        np.testing.assert_array_equal(product.run_gated(order=order), gated)


def test_activations_of_zero_and_of_one_large_value(gpu):
    product = Product(gpu, "q4_0", 4, 256)
    product.x[:] = 0
    assert (product.run() == 0).all()
    product.x[70] = -1e30
    product.check(product.run())


@pytest.mark.parametrize("kind", KINDS)
def test_packing(gpu, kind):
    """The planes, read as their description says, hold what the file's rows do."""
    matrix = Matrix(gpu, kind, 7, width_of(kind, 500))
    np.testing.assert_array_equal(unpacked(matrix), matrix.values)


@pytest.mark.parametrize("kind", KINDS)
def test_packing_rows_that_alternate(gpu, kind):
    """As gate and up do; the rows of the first stay as they are while those of the second come."""
    n_columns = width_of(kind, 260)
    first, second = Matrix(gpu, kind, 3, n_columns, seed=1), Matrix(gpu, kind, 3, n_columns, seed=2)
    both = Matrix(gpu, kind, 6, n_columns, seed=3)
    for place, matrix in enumerate((first, second)):
        both.put(gpu, matrix.rows, first=place, step=2)
    if kind.startswith("fp8"):  # the loader sends scales without a kernel
        both.scales.values[0::2], both.scales.values[1::2] = first.scales.values, second.scales.values
    np.testing.assert_array_equal(unpacked(both)[0::2], first.values)
    np.testing.assert_array_equal(unpacked(both)[1::2], second.values)


@pytest.mark.parametrize("kind", ["q4_k", "q6_k", "f16"])
def test_packing_does_not_depend_on_the_order_of_threads(gpu, kind):
    expected = Matrix(gpu, kind, 5, 512).bytes()
    for order in ORDERS:
        assert Matrix(gpu, kind, 5, 512, order=order).bytes() == expected


def prepare(gpu, x, norm, n_columns: int, out_columns: int, is_integer: bool, order: int = 0):
    """Rows x (n, pitch) -> halves (n, out_columns) and powers (n,)."""
    halves, powers = Guarded((len(x), out_columns), np.float16), Guarded(len(x))
    gpu.run(
        "prepare", len(x), floats(x), norm, halves, powers, n_columns, x.shape[1], out_columns, int(is_integer),
        EPSILON, shared_bytes=128, order=order,
    )  # fmt: skip
    return halves.check(), powers.check()


@pytest.mark.parametrize("is_integer", [False, True])
@pytest.mark.parametrize("with_norm", [False, True])
def test_rows_as_halves(gpu, with_norm, is_integer):
    random = np.random.default_rng(1)
    n_columns, pitch, out_columns = 96 if is_integer else 90, 110, 128
    x = random.standard_normal((5, pitch), dtype=np.float32) * np.float32([[1], [1e-6], [1e9], [0], [3e37]])
    norm = random.uniform(0.5, 1.5, n_columns).astype(np.float32)
    if with_norm:
        x[4] = 1
    halves, powers = prepare(gpu, x, floats(norm) if with_norm else None, n_columns, out_columns, is_integer)
    exact = rms_normalized(x[:, :n_columns], norm, EPSILON) if with_norm else x[:, :n_columns]
    if is_integer:
        exact = quantized(exact)
    largest = np.abs(exact).max(axis=1)
    assert np.array_equal(np.frexp(powers)[0], np.full(5, 0.5)), "powers of two"
    assert (powers[largest > 0] > largest[largest > 0]).all() and (powers <= np.maximum(2 * largest, 1)).all()
    assert (halves[:, n_columns:] == 0).all()
    found = halves[:, :n_columns].astype(np.float32) * powers[:, None]
    assert (np.abs(found - exact) <= np.abs(exact) * 2**-10.9 + powers[:, None] * 2**-24).all()


def test_preparing_does_not_depend_on_the_order_of_threads(gpu):
    x = np.random.default_rng(2).standard_normal((2, 600), dtype=np.float32)
    norm = floats(np.ones(600))
    expected = [part.copy() for part in prepare(gpu, x, norm, 600, 640, True)]
    for order in ORDERS:
        for found, before in zip(prepare(gpu, x, norm, 600, 640, True, order), expected, strict=True):
            np.testing.assert_array_equal(found, before)


@pytest.mark.parametrize("adds", [0, 1])
def test_rows_normed(gpu, adds):
    x = np.random.default_rng(3).standard_normal((3, 700), dtype=np.float32)
    norm, out = np.random.default_rng(4).uniform(0.5, 1.5, 600).astype(np.float32), Guarded((3, 650))
    if adds:
        out.values[:, :600] = 3
    gpu.run("norm_rows", 3, floats(x), floats(norm), out, 600, 700, 650, adds, EPSILON, shared_bytes=128)
    expected = rms_normalized(x[:, :600], norm, EPSILON) + 3 * adds
    np.testing.assert_allclose(out.values[:, :600], expected, rtol=2e-6, atol=adds * 1e-6)
    assert np.isnan(out.values[:, 600:]).all()


class ManyProducts:
    """A matrix and many rows of activations, as the planner has them multiplied."""

    def __init__(self, gpu, kind: str, n_rows: int, n_columns: int, n_tokens: int):
        random = np.random.default_rng(n_tokens)
        self.gpu, self.kind, self.n_tokens = gpu, kind, n_tokens
        self.matrix = Matrix(gpu, kind, n_rows, n_columns)
        self.padded = steps.padded_columns(n_columns)
        self.x = random.standard_normal((n_tokens, n_columns), dtype=np.float32)
        self.bias = random.standard_normal(n_rows, dtype=np.float32)
        self.before = random.standard_normal((n_tokens, n_rows + 5), dtype=np.float32)
        is_integer = FORMATS[kind].is_integer
        halves, self.powers = prepare(gpu, self.x, None, n_columns, self.padded, is_integer)
        self.halves = np.full((-(-n_tokens // 128) * 128, self.padded), np.nan, np.float16)
        self.halves[:n_tokens] = halves

    def run(self, with_bias=False, mode=STORE, order=0) -> np.ndarray:
        matrix, n_rows = self.matrix, self.matrix.n_rows
        width = n_rows // 2 if mode == SWIGLU else n_rows
        out = Guarded((self.n_tokens, width + 5))
        if mode == ADD:
            out.values[:] = self.before
        blocks = (-(-self.n_tokens // plan.GEMM_TOKENS), -(-n_rows // plan.GEMM_ROWS), 1)
        self.gpu.run(
            f"gemm_{self.kind}", blocks, *matrix.arguments, Guarded.of(self.halves), floats(self.powers),
            floats(self.bias) if with_bias else None, out, n_rows, matrix.n_blocks, self.n_tokens, self.padded,
            width + 5, mode, shared_bytes=plan.GEMM_SHARED_BYTES, order=order,
        )  # fmt: skip
        behind = out.values[:, width:]
        assert np.array_equal(behind, self.before[:, width:]) if mode == ADD else np.isnan(behind).all()
        return out.values[:, :width]

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Activations and weights as halves, which tensor cores multiply exactly."""
        left = self.halves[: self.n_tokens, : self.matrix.n_columns].astype(np.float32) * self.powers[:, None]
        factor = np.ones((self.matrix.n_rows, 1), np.float32)
        return left, (self.matrix.values * factor).astype(np.float16).astype(np.float32)

    def check(self, found, with_bias=False, mode=STORE) -> None:
        left, right = self.sides()
        exact = left.astype(np.float64) @ right.astype(np.float64).T
        if mode == SWIGLU:
            slack = 3e-6 * (np.abs(left) @ np.abs(right).T)
            gate, up = exact[:, 0::2].astype(np.float32), exact[:, 1::2].astype(np.float32)
            bound = 1.1 * slack[:, 0::2] * (np.abs(up) + slack[:, 1::2]) + np.abs(silu(gate)) * slack[:, 1::2]
            assert (np.abs(found - silu(gate) * up) <= bound + 1e-6 * np.abs(gate * up)).all()
            return
        extra = (self.bias if with_bias else 0) + (self.before[:, : self.matrix.n_rows] if mode == ADD else 0)
        # Besides the order of sums: a weight's last bit, where scale and offset are joined in another order.
        slack = 2.0**-11 * np.abs(left) @ (np.abs(right) * self.unsure()).T
        found_error = np.abs(found - exact - extra)
        assert (found_error <= 3e-6 * (np.abs(left) @ np.abs(right).T + np.abs(extra)) + slack + 1e-30).all()

    def unsure(self) -> np.ndarray:
        """1 where a weight is close to the middle of two halves."""
        middle = self.matrix.values.astype(np.float64)
        near = [(middle * (1 + step)).astype(np.float32).astype(np.float16) for step in (-1e-6, 1e-6)]
        return (near[0] != near[1]) * np.float32(2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_times_many_rows(gpu, kind):
    product = ManyProducts(gpu, kind, 133, width_of(kind, 96), 17)
    product.check(product.run())


@pytest.mark.parametrize("kind", ["q4_0", "f16"])
def test_many_rows_with_bias_what_was_there_and_gates(gpu, kind):
    product = ManyProducts(gpu, kind, 38, 96, 3)
    product.check(product.run(with_bias=True), with_bias=True)
    product.check(product.run(with_bias=True, mode=ADD), with_bias=True, mode=ADD)
    product.check(product.run(mode=SWIGLU), mode=SWIGLU)


@pytest.mark.slow
@pytest.mark.parametrize("n_tokens", [1, 128, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_all_tiles_of_a_product(gpu, kind, n_tokens):
    product = ManyProducts(gpu, kind, 1003, width_of(kind, 224), n_tokens)
    product.check(product.run(with_bias=True, mode=ADD), with_bias=True, mode=ADD)


def test_many_rows_do_not_depend_on_the_order_of_threads(gpu):
    product = ManyProducts(gpu, "q8_0", 40, 160, 20)
    expected = product.run()
    for order in ORDERS:
        np.testing.assert_array_equal(product.run(order=order), expected)
