"""The SIMD layer against NumPy, for every instruction set that this host can run."""

import ctypes

import llvmlite.binding as llvm
import numpy as np
import pytest
from kernel_builds import HOST_TRIPLE, aligned, call, host_kernels, host_variants

from edgellama.compiler.loader import Kernels

pytestmark = pytest.mark.skipif(llvm.get_process_triple() != HOST_TRIPLE, reason="the test kernels are for Linux")


@pytest.fixture(scope="module", params=host_variants())
def kernels(request) -> Kernels:
    return host_kernels(request.param)


def dot4_reference(acc, w, x) -> np.ndarray:
    return acc + (w.reshape(16, 4).astype(np.int32) * x.astype(np.int32)).sum(1, dtype=np.int32)


def check_dot4(kernels: Kernels, name: str, w: np.ndarray, x: np.ndarray) -> None:
    acc = np.arange(-8, 8, dtype=np.int32) * 1000003
    out = np.full(16, 7, np.int32)
    if name == "dot4_bytes":
        call(kernels, name, acc, aligned(w), x, -x.sum(dtype=np.int32, keepdims=True), out)
        np.testing.assert_array_equal(out, dot4_reference(acc, w.astype(np.int32) - 128, x))
    else:
        call(kernels, name, acc, aligned(w), x, out)
        np.testing.assert_array_equal(out, dot4_reference(acc, w, x))


@pytest.mark.parametrize(("name", "w"), [("dot4_bytes", 255), ("dot4_bytes", 0), ("dot4_small", 64)])
@pytest.mark.parametrize("x", [-128, 127, -1, 0])
def test_dot4_is_exact_at_its_extremes(kernels, name, w, x):
    check_dot4(kernels, name, np.full(64, w, np.uint8), np.full(4, x, np.int8))


@pytest.mark.parametrize(("name", "largest"), [("dot4_bytes", 255), ("dot4_small", 64)])
def test_dot4_sums_adjacent_bytes_exactly(kernels, name, largest):
    random = np.random.default_rng(1)
    for _ in range(50):
        w = random.integers(0, largest + 1, 64, dtype=np.uint8)
        check_dot4(kernels, name, w, random.integers(-128, 128, 4, dtype=np.int8))


def test_dot4_wraps_where_int32_ends(kernels):
    acc = np.full(16, 2**31 - 1, np.int32)
    out = np.zeros(16, np.int32)
    call(kernels, "dot4_small", acc, aligned(np.full(64, 64, np.uint8)), np.full(4, 127, np.int8), out)
    expected = (2**31 - 1 + 4 * 64 * 127 + 2**31) % 2**32 - 2**31
    np.testing.assert_array_equal(out, expected)


def exponential(kernels: Kernels, x: np.ndarray) -> np.ndarray:
    out = np.full(x.shape, np.nan, np.float32)
    function = kernels.function("exponential", 2)
    for i in range(0, len(x), 16):
        function(x.ctypes.data + 4 * i, out.ctypes.data + 4 * i)
    return out


def test_exponential_is_within_three_ten_millionths(kernels):
    x = np.linspace(-87, 88, 16 * 5000, dtype=np.float32)
    x = np.concatenate([x, np.linspace(-1, 1, 16 * 1000, dtype=np.float32)])
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(exponential(kernels, x) - exact) / exact) < 3e-7


def test_exponential_of_extremes_is_finite_and_of_zero_one(kernels):
    x = np.array([0, -0.0, 1000, -1000, np.inf, -np.inf, 3e38, -3e38] * 2, np.float32)
    values = exponential(kernels, x)
    assert np.isfinite(values).all() and (values >= 0).all()
    assert values[0] == values[1] == 1
    assert values[3] < 2e-38 and values[2] > 1e38


@pytest.mark.parametrize("count", [*range(18), -1, 1000])
def test_masked_copies_touch_the_first_lanes_only(kernels, count):
    x = np.arange(1, 33, dtype=np.float32)
    out = np.full(32, np.nan, np.float32)
    call(kernels, "copy_first", x, out, count)
    taken = min(max(count, 0), 16)
    np.testing.assert_array_equal(out[:taken], x[:taken])
    assert np.isnan(out[taken:]).all()


@pytest.mark.parametrize("count", range(17))
def test_masked_copies_never_fault_at_the_end_of_a_page(kernels, count):
    import mmap

    size = 2 * mmap.PAGESIZE
    pages = mmap.mmap(-1, size)
    libc = ctypes.CDLL(None)
    space = np.frombuffer(pages, np.uint8)
    guard = space.ctypes.data + mmap.PAGESIZE
    assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    x = space[mmap.PAGESIZE - 4 * count : mmap.PAGESIZE].view(np.float32)
    x[:] = np.arange(1, count + 1)
    out = np.zeros(16, np.float32)
    kernels.function("copy_first", 3)(guard - 4 * count, out.ctypes.data, count)
    np.testing.assert_array_equal(out[:count], np.arange(1, count + 1))
    kernels.function("copy_first", 3)(out.ctypes.data, guard - 4 * count, count)
    np.testing.assert_array_equal(x, np.arange(1, count + 1))
    assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(mmap.PAGESIZE), 3) == 0


@pytest.mark.parametrize("count", range(18))
def test_select_first(kernels, count):
    x, y = np.arange(16, dtype=np.float32), -np.arange(16, dtype=np.float32) - 1
    out = np.zeros(16, np.float32)
    call(kernels, "select_first", x, y, out, count)
    np.testing.assert_array_equal(out, np.where(np.arange(16) < count, x, y))


def sums(kernels: Kernels, x: np.ndarray) -> np.ndarray:
    out = np.full(2, np.nan, np.float32)
    call(kernels, "sums", x, out, len(x) // 16)
    return out


def tree_sum(x: np.ndarray) -> np.float32:
    """The order that sum_lanes promises: halves onto each other."""
    lanes = np.zeros(16, np.float32)
    for row in x.reshape(-1, 16):
        lanes = lanes + row
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return lanes[0]


def test_sums_have_the_promised_order_bit_for_bit(kernels):
    x = (np.random.default_rng(2).standard_normal(16 * 50) * 10.0 ** np.arange(-4, 4).repeat(100)).astype(np.float32)
    first = sums(kernels, x)
    assert first[0].tobytes() == tree_sum(x).tobytes()
    assert all(sums(kernels, x.copy()).tobytes() == first.tobytes() for _ in range(20))
    assert first[1] == x.max()


def test_the_largest_lane_in_every_place(kernels):
    for place in range(32):
        x = np.arange(-40, -8, dtype=np.float32)
        x[place] = -0.5
        assert sums(kernels, x)[1] == -0.5


def test_integer_sum(kernels):
    x, out = np.arange(-3, 13, dtype=np.int32) * 12345, np.zeros(1, np.int64)
    call(kernels, "sum_ints", x, out)
    assert out[0] == x.sum()


@pytest.mark.parametrize(("name", "size"), [("nibbles", 64), ("nibbles16", 16)])
def test_nibbles_of_every_byte(kernels, name, size):
    for start in range(0, 256, size):
        x = aligned(np.arange(start, start + size, dtype=np.uint8))
        low, high = aligned(np.zeros(size, np.uint8)), aligned(np.zeros(size, np.uint8))
        call(kernels, name, x, low, high)
        np.testing.assert_array_equal(low, x & 15)
        np.testing.assert_array_equal(high, x >> 4)


ALL_HALVES = np.arange(65536, dtype=np.uint16)


def run_over(kernels: Kernels, name: str, x: np.ndarray, out: np.ndarray, step: int = 16) -> np.ndarray:
    """Call name(x + i, out + i) for every `step` elements."""
    function = kernels.function(name, 2)
    for i in range(0, len(x), step):
        function(x.ctypes.data + x.itemsize * i, out.ctypes.data + out.itemsize * i)
    return out


@pytest.mark.parametrize(("name", "step"), [("halves_to_floats", 16), ("half_to_float", 1)])
def test_every_half_becomes_its_float(kernels, name, step):
    values = run_over(kernels, name, ALL_HALVES, np.zeros(65536, np.float32), step)
    expected = ALL_HALVES.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(values[numbers].view(np.uint32), expected[numbers].view(np.uint32))


def test_halves_packed_in_lanes(kernels):
    x = np.random.default_rng(3).integers(0, 0x7C00, 32, dtype=np.uint16)
    low, high = np.zeros(16, np.float32), np.zeros(16, np.float32)
    call(kernels, "packed_halves_to_floats", x, low, high)
    np.testing.assert_array_equal(low, x.view(np.float16)[0::2])
    np.testing.assert_array_equal(high, x.view(np.float16)[1::2])


@pytest.mark.parametrize(("name", "step"), [("floats_to_halves", 16), ("float_to_half", 1)])
def test_floats_round_to_the_nearest_half(kernels, name, step):
    """Every half, the middle between it and the next (ties to even), and one step to either side of that middle."""
    exact = ALL_HALVES[:0x7C00].view(np.float16).astype(np.float32)
    steps = np.append(exact[1:], np.float32(65536))
    middle = (exact + steps) / 2
    x = np.concatenate([exact, middle, np.nextafter(middle, exact), np.nextafter(middle, steps)])
    x = np.concatenate([x, -x, np.float32([np.inf, -np.inf, 1e6, -1e6, 3e38, 1e-30, -1e-45, 0] * 2)])
    values = run_over(kernels, name, x, np.zeros(len(x), np.uint16), step)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(values, x.astype(np.float16).view(np.uint16))


def test_nan_stays_nan_as_a_half(kernels):
    x = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF] * 4, np.uint32)
    values = run_over(kernels, "floats_to_halves", x, np.zeros(16, np.float16))
    assert np.isnan(values).all()


def test_every_bfloat_becomes_its_float(kernels):
    values = run_over(kernels, "bfloats_to_floats", ALL_HALVES, np.zeros(65536, np.float32))
    np.testing.assert_array_equal(values.view(np.uint32), ALL_HALVES.astype(np.uint32) << 16)


def test_bytes_become_signed_and_unsigned_integers(kernels):
    x = np.random.default_rng(4).integers(0, 256, 64, dtype=np.uint8)
    out = np.zeros((6, 16), np.int32)
    call(kernels, "bytes_to_ints", x, out)
    np.testing.assert_array_equal(out[0], x[:16].view(np.int8))
    np.testing.assert_array_equal(out[1], x[:16])
    np.testing.assert_array_equal(out[2:], x.view(np.int8).reshape(16, 4).T)


def test_rounding_to_integers_is_half_to_even(kernels):
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -127.5, 0.49999997, -0.0, 1e6, -1e6, 3.2, -3.7, 7, 0], "f4")
    out = np.zeros(16, np.int32)
    call(kernels, "round_to_int", x, out)
    np.testing.assert_array_equal(out, np.rint(x).astype(np.int32))


def test_fma_rounds_once(kernels):
    a, b, c = (np.full(16, v, np.float32) for v in (1 + 2**-12, 1 + 2**-12, -1 - 2**-11))
    out = np.zeros(16, np.float32)
    call(kernels, "fma", a, b, c, out)
    np.testing.assert_array_equal(out, np.float32(2**-24))  # two roundings give 0
