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
from edgellama.ops import GATHER, LOGIT_ROWS, MULTIPLY_SILU, RMSNORM

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
@pytest.mark.parametrize(("n_rows", "width"), [(1, 1), (1, 33), (2, 16), (7, 100)])
def test_multiply_silu(kernels, n_rows, width, n_workers):
    """Also where exp(-gate) overflows, and into rows that are wider than the product."""
    gate_up, out = random_rows(n_rows, 2 * width), Guarded((n_rows, width + 3))
    gate_up.values[0, :width] = np.linspace(-120, 120, width)
    machine = Machine(kernels, simple_frame(n_rows), n_workers)
    sizes = {"pitch": 2 * width, "out_pitch": width + 3, "width": width}
    machine.run(machine.bind(MULTIPLY_SILU, {"gate_up": gate_up, "out": out}, sizes))
    gate, up = gate_up.values[:, :width], gate_up.values[:, width:]
    np.testing.assert_allclose(out.check()[:, :width], reference.silu(gate) * up, rtol=2e-6, atol=1e-30)
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
