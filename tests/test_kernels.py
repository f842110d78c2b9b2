"""Kernels that work on rows and prepare activations, against NumPy: norm, silu, gather, quantize, panel."""

import numpy as np
import pytest
from kernel_harness import (
    Guarded,
    Machine,
    decode_float_panels,
    decode_panels,
    float_panels,
    panel_tokens,
    quantized_panels,
    simple_frame,
)

from edgellama import reference
from edgellama.compiler import load_kernels
from edgellama.cpu.layout import NEGATIVE_SUM, NEGATIVE_SUM_16, SCALE, SCALED_SUM, SCALED_SUM_16
from edgellama.frame import FEW_ROWS
from edgellama.ops import (
    ACTIVATE,
    ADD_POSITIONS,
    ADD_RMSNORM,
    GATHER,
    LAYERNORM,
    LOGIT_ROWS,
    MULTIPLY_SILU,
    RMSNORM,
    SILU,
    SOFT_CAP,
)

TOKENS = (1, 2, 4, 5, 6, 7, 12, 13)
EPSILON = 2.0**-23


@pytest.fixture(scope="module")
def kernels():
    return load_kernels()


def random_rows(n_rows: int, width: int, seed: int = 0) -> Guarded:
    return Guarded.of(np.random.default_rng(seed).standard_normal((n_rows, width), dtype=np.float32))


@pytest.mark.parametrize("n_workers", (1, 2))
@pytest.mark.parametrize("width", (1, 15, 16, 17, 64, 100))
@pytest.mark.parametrize("n_rows", (1, 4, 5, 33))
def test_rmsnorm(kernels, n_rows, width, n_workers):
    x, weight, out = random_rows(n_rows, width), random_rows(1, width, 1), Guarded((n_rows, width))
    machine = Machine(kernels, simple_frame(n_rows), n_workers)
    machine.run(machine.bind(RMSNORM, {"x": x, "weight": weight, "out": out}, {"width": width}, {"epsilon": 1e-5}))
    wanted = reference.rms_normalized(x.values, weight.values[0], 1e-5)
    np.testing.assert_allclose(out.check(), wanted, rtol=(width + 8) * EPSILON)


def test_rmsnorm_of_zeros_and_huge_values(kernels):
    x, weight, out = Guarded((3, 32)), random_rows(1, 32), Guarded((3, 32))
    x.values[:] = np.array([0, 1e-20, 1e18], np.float32)[:, None]
    machine = Machine(kernels, simple_frame(3))
    machine.run(machine.bind(RMSNORM, {"x": x, "weight": weight, "out": out}, {"width": 32}, {"epsilon": 1e-6}))
    np.testing.assert_allclose(out.check(), reference.rms_normalized(x.values, weight.values[0], 1e-6), rtol=1e-6)


@pytest.mark.parametrize("n_workers", (1, 2))
@pytest.mark.parametrize("width", (1, 15, 33, 100))
@pytest.mark.parametrize("n_rows", (1, 4, 33))
def test_add_rmsnorm(kernels, n_rows, width, n_workers):
    x, weight, out = random_rows(n_rows, width), random_rows(1, width, 1), random_rows(n_rows, width, 2)
    before = out.values.copy()
    machine = Machine(kernels, simple_frame(n_rows), n_workers)
    operands = {"x": x, "weight": weight, "out": out}
    machine.run(machine.bind(ADD_RMSNORM, operands, {"width": width}, {"epsilon": 1e-5}))
    wanted = before + reference.rms_normalized(x.values, weight.values[0], 1e-5)
    np.testing.assert_allclose(out.check(), wanted, rtol=(width + 8) * EPSILON, atol=1e-6)


@pytest.mark.parametrize("with_bias", (True, False))
@pytest.mark.parametrize("width", (1, 15, 16, 33, 100))
@pytest.mark.parametrize("n_rows", (1, 4, 5, 33))
def test_layernorm(kernels, n_rows, width, with_bias):
    """Also of values far from zero."""
    x, weight, out = random_rows(n_rows, width), random_rows(1, width, 1), Guarded((n_rows, width))
    x.values[-1] += 100
    bias = random_rows(1, width, 2) if with_bias else None
    machine = Machine(kernels, simple_frame(n_rows), 2)
    operands = {"x": x, "weight": weight, "bias": bias, "out": out}
    machine.run(machine.bind(LAYERNORM, operands, {"width": width}, {"epsilon": 1e-5}))
    wanted = reference.layer_normalized(x.values, weight.values[0], bias and bias.values[0], 1e-5)
    np.testing.assert_allclose(out.check(), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.values[:-1], wanted[:-1], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("n_rows", (1, 5))
@pytest.mark.parametrize("width", (1, 16, 70))
def test_add_positions(kernels, width, n_rows):
    x, table = random_rows(n_rows, width), random_rows(600, width, 1)
    before, frame = x.values.copy(), simple_frame(n_rows)
    frame.positions[:n_rows] = positions = (599, 0, 7, 300, 255)[:n_rows]
    machine = Machine(kernels, frame, 2)
    machine.run(machine.bind(ADD_POSITIONS, {"x": x, "table": table}, {"width": width}))
    np.testing.assert_array_equal(x.check(), before + table.values[list(positions)])


def hard_values(width: int) -> np.ndarray:
    """Where exponentials overflow, both signs of zero and its neighbourhood, and everyday values."""
    everyday = np.random.default_rng(5).standard_normal(width) * 3
    edges = [0.0, -0.0, 1e-30, -1e-30, 1e-4, -1e-4, 5, -5, 20, -20, 90, -90, 1e4, -1e4]
    return np.concatenate([edges, everyday])[:width].astype(np.float32)


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize(("n_rows", "width"), [(1, 1), (1, 33), (3, 2050)])
def test_activate(kernels, n_rows, width, activation):
    """In rows that are wider than what is activated."""
    x = random_rows(n_rows, width + 3)
    x.values[0, :width] = hard_values(width)
    before = x.values.copy()
    machine = Machine(kernels, simple_frame(n_rows), 2)
    sizes = {"pitch": width + 3, "width": width, "activation": activation}
    machine.run(machine.bind(ACTIVATE, {"x": x}, sizes))
    wanted = reference.ACTIVATIONS[activation](before[:, :width])
    np.testing.assert_allclose(x.check()[:, :width], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x.values[:, width:], before[:, width:])


@pytest.mark.parametrize("cap", (0.5, 30.0))
@pytest.mark.parametrize(("n_rows", "width"), [(1, 1), (2, 35), (1, 2050)])
def test_soft_cap(kernels, n_rows, width, cap):
    x = random_rows(n_rows, width)
    x.values[0] = hard_values(width)
    before = x.values.copy()
    machine = Machine(kernels, simple_frame(5, range(n_rows)), 2)
    operation = machine.bind(SOFT_CAP, {"x": x}, {"pitch": width, "width": width}, {"cap": cap}, extent=LOGIT_ROWS)
    machine.run(operation)
    np.testing.assert_allclose(x.check(), reference.soft_capped(before, cap), rtol=0, atol=4e-7 * cap)


@pytest.mark.parametrize("n_workers", (1, 2))
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize(("n_rows", "width"), [(1, 1), (1, 33), (2, 16), (7, 100), (3, 1030)])
def test_multiply_silu(kernels, n_rows, width, activation, n_workers):
    """Also where exp(-gate) overflows, and into rows that are wider than the product."""
    gate_up, out = random_rows(n_rows, 2 * width), Guarded((n_rows, width + 3))
    gate_up.values[0, :width] = np.linspace(-120, 120, width)
    machine = Machine(kernels, simple_frame(n_rows), n_workers)
    sizes = {"pitch": 2 * width, "out_pitch": width + 3, "width": width, "activation": activation}
    machine.run(machine.bind(MULTIPLY_SILU, {"gate_up": gate_up, "out": out}, sizes))
    gate, up = gate_up.values[:, :width], gate_up.values[:, width:]
    wanted = reference.ACTIVATIONS[activation](gate) * up
    exact = {"rtol": 2e-6, "atol": 1e-30} if activation == SILU else {"rtol": 1e-5, "atol": 3e-6}
    np.testing.assert_allclose(out.check()[:, :width], wanted, **exact)
    assert np.isnan(out.values[:, width:]).all()


@pytest.mark.parametrize("n_workers", (1, 2))
@pytest.mark.parametrize("width", (1, 16, 70))
def test_gather(kernels, width, n_workers):
    x, rows = random_rows(9, width), (8, 0, 3, 3, 7, 1)
    out = Guarded((len(rows), width))
    machine = Machine(kernels, simple_frame(9, rows), n_workers)
    machine.run(machine.bind(GATHER, {"x": x, "out": out}, {"width": width}, extent=LOGIT_ROWS))
    np.testing.assert_array_equal(out.check(), x.values[list(rows)])


@pytest.mark.parametrize("n_workers", (1, 2))
@pytest.mark.parametrize(("width", "pitch"), [(32, 32), (96, 128), (512, 512)])
@pytest.mark.parametrize("n_rows", TOKENS)
def test_quantize(kernels, n_rows, width, pitch, n_workers):
    """Integers and their sums exactly, scales to the last bit; ties round to even, zeros have scale zero."""
    x = random_rows(n_rows, pitch)
    x.values[0, :32] = 0
    x.values[-1, :32] = np.arange(-16, 16) / 2
    x.values[-1, 31] = 127  # the scale is 1, so every second value is a tie
    tokens = panel_tokens(kernels, n_rows)
    places = whole_panels(n_rows, tokens)
    panels = quantized_panels(kernels, x, n_workers, width)
    codes, fields = decode_panels(panels.values, width, len(places), tokens)
    wanted, scales = reference.integers_and_scales(x.values[places, :width])
    np.testing.assert_array_equal(codes.reshape(wanted.shape), wanted)
    check_fields(fields, wanted.astype(np.int32), scales[..., 0])


def whole_panels(n_rows: int, tokens: int) -> np.ndarray:
    """The row in every place of the panels: places past the last row repeat it, so that no kernel meets garbage."""
    return np.minimum(np.arange(-(-n_rows // tokens) * tokens), n_rows - 1)


def check_fields(fields: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> None:
    """Fields as int32 bits (n_rows, n_blocks, N_FIELDS) of codes (n_rows, n_blocks, 32)."""
    floats, sums = fields.view(np.float32), codes.sum(axis=-1)
    sums_16 = codes.reshape(*sums.shape, 2, 16).sum(axis=-1)
    got_scales, halves = floats[..., SCALE], slice(SCALED_SUM_16, SCALED_SUM_16 + 2)
    np.testing.assert_array_max_ulp(got_scales, scales, 1)
    np.testing.assert_array_equal(fields[..., NEGATIVE_SUM], -sums)
    np.testing.assert_array_equal(fields[..., NEGATIVE_SUM_16 : NEGATIVE_SUM_16 + 2], -sums_16)
    np.testing.assert_array_equal(floats[..., SCALED_SUM], got_scales * sums.astype(np.float32))
    np.testing.assert_array_equal(floats[..., halves], got_scales[..., None] * sums_16.astype(np.float32))


@pytest.mark.parametrize(("width", "pitch"), [(1, 1), (35, 35), (64, 70)])
@pytest.mark.parametrize("n_rows", TOKENS)
def test_panel(kernels, n_rows, width, pitch):
    x, tokens = random_rows(n_rows, pitch), panel_tokens(kernels, n_rows)
    places = whole_panels(n_rows, tokens)
    panels = float_panels(kernels, x, 2, width).values
    np.testing.assert_array_equal(decode_float_panels(panels, width, len(places), tokens), x.values[places, :width])


class PrivateMemory:
    """A range of memory that each of two workers replaces by its own."""

    def __init__(self, machine: Machine, shape):
        self.copies = [Guarded(shape) for _ in range(2)]
        begin = self.copies[0].address
        for worker, copy in zip(machine.workers.values, self.copies, strict=True):
            worker["private_begin"], worker["private_end"] = begin, begin + copy.n_bytes
            worker["private_shift"] = copy.address - begin


@pytest.mark.parametrize("n_rows", (1, FEW_ROWS, FEW_ROWS + 1))
def test_private_rows(kernels, n_rows):
    """With few rows each worker normalises all of them into its own memory; with more they share the work."""
    machine = Machine(kernels, simple_frame(n_rows), 2)
    private = PrivateMemory(machine, (n_rows, 64))
    x, weight = random_rows(n_rows, 64), random_rows(1, 64, 1)
    operands = {"x": x, "weight": weight, "out": private.copies[0]}
    machine.run(machine.bind(RMSNORM, operands, {"width": 64}, {"epsilon": 1e-5}))
    wanted = reference.rms_normalized(x.values, weight.values[0], 1e-5)
    first, second = (copy.check() for copy in private.copies)
    np.testing.assert_allclose(first, wanted, rtol=1e-5)
    if n_rows <= FEW_ROWS:
        np.testing.assert_array_equal(second, first)
    else:
        assert np.isnan(second).all()
