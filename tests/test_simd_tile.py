"""The register tile and the atomics of the SIMD layer against NumPy, on every instruction set of this host."""

import threading

import llvmlite.binding as llvm
import numpy as np
import pytest
from kernel_builds import HOST_TRIPLE, aligned, call, host_kernels, host_variants

from edgellama.compiler.loader import Kernels

pytestmark = pytest.mark.skipif(llvm.get_process_triple() != HOST_TRIPLE, reason="the test kernels are for Linux")


@pytest.fixture(scope="module", params=host_variants())
def kernels(request) -> Kernels:
    return host_kernels(request.param)


def tile_shape(kernels: Kernels) -> tuple[int, int]:
    shape = np.zeros(2, np.int64)
    call(kernels, "tile_shape", shape[0:], shape[1:])
    return int(shape[0]), int(shape[1])


def test_the_tile_has_the_shape_of_its_target(kernels):
    assert tile_shape(kernels) == (kernels.target.tile_tokens, kernels.target.tile_halves)


def spill_space(tokens: int) -> np.ndarray:
    """spill() leaves room for two halves per token whatever the tile has."""
    return aligned(np.full((tokens, 2, 16), np.nan, np.float32))


@pytest.mark.parametrize(("largest", "n_quads"), [(31, 8), (63, 4), (255, 8)])  # the largest runs of small codes
@pytest.mark.parametrize("extreme", [False, True])
def test_tile_product(kernels, largest, n_quads, extreme):
    tokens, halves = tile_shape(kernels)
    random = np.random.default_rng(5)
    w = aligned(random.integers(largest if extreme else 0, largest + 1, (n_quads, halves, 16, 4), dtype=np.uint8))
    x = random.integers(-128, -127 if extreme else 128, (n_quads, tokens, 4), dtype=np.int8)
    starts = random.integers(-4000, 4000, tokens, dtype=np.int32)
    scales = aligned(random.standard_normal((halves, 16)).astype(np.float32))
    token_scales = random.standard_normal(tokens).astype(np.float32)
    out = spill_space(tokens)
    if largest == 255:
        starts = -x.sum((0, 2), dtype=np.int32)
        call(kernels, "tile_product_of_bytes", n_quads, w, x, starts, scales, token_scales, out)
        first = 128 * starts
    else:
        call(kernels, "tile_product", n_quads, w, x, starts, scales, token_scales, out)
        first = 2 * starts
    dots = np.einsum("qhik,qtk->thi", w.astype(np.int32), x.astype(np.int32)) + first[:, None, None]
    expected = (dots.astype(np.float32) * scales) * token_scales[:, None, None]
    np.testing.assert_array_equal(out[:, :halves], expected)
    assert np.isnan(out[:, halves:]).all()


def test_tile_outer_is_a_chain_of_fmas_in_order(kernels):
    tokens, halves = tile_shape(kernels)
    random = np.random.default_rng(6)
    rows = aligned(random.standard_normal((20, halves, 16)).astype(np.float32))
    columns = random.standard_normal((20, tokens)).astype(np.float32)
    out = spill_space(tokens)
    call(kernels, "tile_outer", 20, rows, columns, out)
    expected = np.zeros((tokens, halves, 16), np.float32)
    for row, column in zip(rows.astype(np.float64), columns.astype(np.float64), strict=True):
        expected = (expected + column[:, None, None] * row).astype(np.float32)  # float64 holds the product exactly
    np.testing.assert_allclose(out[:, :halves], expected, rtol=0, atol=1e-6)
    assert np.mean(out[:, :halves] == expected) > 0.99  # rounding twice, through float64, differs once in a long while


def run_threads(function, *arguments: int) -> None:
    threads = [threading.Thread(target=function, args=arguments) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_atomic_additions_are_not_lost(kernels):
    counter = np.zeros(1, np.int64)
    run_threads(kernels.function("count_up", 2), counter.ctypes.data, 100_000)
    assert counter[0] == 400_000


def test_compare_and_swap_makes_a_lock(kernels):
    lock, counter = aligned(np.zeros(8, np.int64)), aligned(np.zeros(8, np.int64))
    run_threads(kernels.function("locked_count_up", 3), lock.ctypes.data, counter.ctypes.data, 2_000)
    assert counter[0] == 8_000
    assert lock[0] == 0
