"""The compiled passes over logits against the same passes in NumPy, on every instruction set of this host."""

import numpy as np
import pytest
from kernel_harness import Guarded
from sampling_definitions import kernels, odd_logits, random_logits

from edgellama.cpu.sampling_layout import BLOCK, LANES, draw_scratch_bytes, leading_scratch_bytes
from edgellama.sampling.kernel_scan import KernelScan
from edgellama.sampling.scan import EVERYTHING, NUMPY_SCAN
from edgellama.simd.detect import executable_isas

SIZES = (1, 2, 15, 16, 17, 31, 511, 512, 513, 1023, 5000, 32000, 151_936)
PRECISION = 2e-6  # of a weight in float32: half a unit in the last place of an exponent of 16 or less, and its power


@pytest.fixture(scope="module", params=executable_isas())
def scan(request) -> KernelScan:
    return KernelScan(kernels(request.param))


def arrays(n: int):
    """Logits of all sorts, also at an address that is a multiple of 4 bytes only."""
    yield random_logits(n, n)
    yield odd_logits(n, n)
    yield odd_logits(n + 1, n)[1:]
    yield np.zeros(n, np.float32)


def top_of(logits: np.ndarray) -> float:
    return float(np.nanmax(logits))


@pytest.mark.parametrize("n", SIZES)
def test_top(scan, n):
    for logits in arrays(n):
        assert scan.top(logits) == NUMPY_SCAN.top(logits) == top_of(logits)
    assert scan.top(np.full(n, np.nan, np.float32)) == -np.inf
    assert scan.top(np.full(n, -np.inf, np.float32)) == -np.inf


@pytest.mark.parametrize("n", SIZES)
def test_likeliest(scan, n):
    """All that are asked for, perhaps some more, and nothing below those."""
    for logits in arrays(n):
        finite = np.sort(logits[logits > -np.inf])[::-1]
        for k in sorted({1, 2, 40, n} - {0}):
            positions, values = scan.likeliest(logits, k, n)
            np.testing.assert_array_equal(logits[positions], values)
            assert (np.diff(positions) > 0).all()
            low = min(values)
            assert len(values) == np.count_nonzero(logits >= low) >= min(k, len(finite))
            if 0 < k < n / 100 and len(np.unique(finite)) == n:
                assert len(values) <= 2 * k + 2  # what the bound is for
            assert scan.likeliest(logits, k, len(values) - 1) is None


def test_likeliest_after_top_of_other_logits(scan):
    """What top() has found is used for the same array only."""
    one, other = random_logits(5000, 1), random_logits(5000, 2)
    wanted = scan.likeliest(one, 7, 100)
    scan.top(other)
    assert scan.likeliest(one, 7, 100) == wanted
    one[3] = 100
    scan.top(one)
    assert scan.likeliest(one, 1, 100) == ([3], [100.0])


@pytest.mark.parametrize("n", SIZES)
def test_at_least(scan, n):
    for logits in arrays(n):
        for low in (-np.inf, float(np.sort(logits)[n // 2]), 0.5, 1e30):
            found = scan.at_least(logits, low, n)
            assert found == NUMPY_SCAN.at_least(logits, low, n)
            assert scan.at_least(logits, low, len(found[0])) == found
            if found[0]:
                assert scan.at_least(logits, low, len(found[0]) - 1) is None


def test_bounds_between_two_floats(scan):
    """A bound is the number itself, not the float32 next to it."""
    one, above = np.float32(1.0), np.nextafter(np.float32(1.0), np.float32(2.0))
    logits, between = np.array([one, above], np.float32), 1.0 + 2.0**-25
    for any_scan in (scan, NUMPY_SCAN):
        assert any_scan.at_least(logits, between, 2) == ([1], [float(above)])
        assert any_scan.keep(logits, logits, (between, 9)).tolist() == [-np.inf, above]
        assert any_scan.draw(logits, (between, 9), float(above), 1.0, 0.0)[0] == 1


@pytest.mark.parametrize("n", SIZES)
def test_keep_allowed_and_nearness(scan, n):
    scores, mask = odd_logits(n, n + 1), np.random.default_rng(n).integers(0, 2**32, -(-n // 32), dtype=np.uint32)
    for logits in arrays(n):
        for bound in (EVERYTHING, (0.5, n // 2), (0.5, n // 3), (2.5, 0), (-1e9, n)):
            kept = scan.keep(scores, logits, bound)
            np.testing.assert_array_equal(kept, NUMPY_SCAN.keep(scores, logits, bound))
        np.testing.assert_array_equal(scan.allowed(logits, mask), NUMPY_SCAN.allowed(logits, mask))
        np.testing.assert_array_equal(scan.nearness(logits, 0.7), NUMPY_SCAN.nearness(logits, 0.7))


def test_keep_and_allowed_in_words():
    logits, mask = odd_logits(1000), np.random.default_rng(0).integers(0, 2**32, 32, dtype=np.uint32)
    wanted = [x if int(mask[i // 32]) >> i % 32 & 1 and x > -np.inf else -np.inf for i, x in enumerate(logits)]
    np.testing.assert_array_equal(NUMPY_SCAN.allowed(logits, mask), np.array(wanted, np.float32))
    wanted = [x if x > 0.5 or (x == 0.5 and i <= 300) else -np.inf for i, x in enumerate(logits)]
    np.testing.assert_array_equal(NUMPY_SCAN.keep(logits, logits, (0.5, 300)), np.array(wanted, np.float32))


def within(scores: np.ndarray, bound) -> list[int]:
    low, last = bound
    return [i for i, x in enumerate(scores.tolist()) if x > low or (x == low and i <= last)]


@pytest.mark.parametrize("n", (*SIZES[:-2], 9000))
@pytest.mark.parametrize("exceed", (False, True))
def test_leading(scan, n, exceed):
    """The same as NumPy finds, or one more or less where the share is reached within rounding."""
    for logits in arrays(n):
        top = top_of(logits)
        for scores in (logits, scan.nearness(logits, top - 1.3)):
            order = np.argsort(-np.fmax(scores, -np.inf), kind="stable")
            sums = np.cumsum(np.exp(np.fmax(logits, -np.inf).astype(np.float64) - top)[order])
            for share in (0.0, 0.01, 0.5, 0.9, 0.9999):
                found = within(scores, scan.leading(scores, logits, top, share, exceed))
                assert set(found) == set(order[: len(found)].tolist())
                if found != within(scores, NUMPY_SCAN.leading(scores, logits, top, share, exceed)):
                    reached, before = sums[len(found) - 1], sums[len(found) - 2] if len(found) > 1 else 0
                    assert before < (share + PRECISION) * sums[-1] and reached > (share - PRECISION) * sums[-1]


@pytest.mark.parametrize("n", (*SIZES[:-2], 9000))
def test_highest(scan, n):
    for logits in arrays(n):
        for k in sorted({1, 2, n // 2, n - 1, n, 2 * n} - {0}):
            found = within(logits, scan.highest(logits, k))
            assert found == within(logits, NUMPY_SCAN.highest(logits, k))
            order = np.argsort(-np.fmax(logits, -np.inf), kind="stable")[: np.count_nonzero(logits > -np.inf)]
            assert found == sorted(order[:k].tolist())


def test_leading_scores_of_very_different_distances(scan):
    """Huge gaps, crowds of floats next to each other, numbers below the normal ones."""
    crowd = np.nextafter(np.float32(1.0), np.float32(2.0), dtype=np.float32) * np.ones(50, np.float32)
    for _ in range(3):
        crowd = np.concatenate([crowd, np.nextafter(crowd[-50:], np.float32(9))])
    logits = np.concatenate([crowd, [3e38, -3e38, 1e-40, 2e-40, 0, -1e30], crowd - 1, [1e-45] * 9]).astype(np.float32)
    for k in range(1, len(logits) + 2, 3):
        wanted = within(logits, NUMPY_SCAN.highest(logits, k))
        assert abs(logits[wanted].min()) < 1e-37 or within(logits, scan.highest(logits, k)) == wanted


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("factor", (0.2, 1.0, 7.0, 1e30))
def test_total_and_energy(scan, n, factor):
    for logits in arrays(n):
        top = top_of(logits)
        # Differences of float32 logits are rounded, and the factor multiplies that.
        wanted = NUMPY_SCAN.total(logits, top, factor)
        np.testing.assert_allclose(scan.total(logits, top, factor), wanted, rtol=PRECISION * (1 + factor))
        np.testing.assert_allclose(scan.energy(logits, top), NUMPY_SCAN.energy(logits, top), rtol=PRECISION, atol=1e-37)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("shift", (0, -200))
def test_mean_and_deviation(scan, n, shift):
    for logits in arrays(n):
        moved = logits + np.float32(shift)
        wanted = NUMPY_SCAN.mean_and_deviation(moved)
        np.testing.assert_allclose(scan.mean_and_deviation(moved), wanted, rtol=2e-6, atol=1e-6)


def test_deviation_beyond_float32(scan):
    logits = np.array([3e38, -3e38, 0, np.nan], np.float32)
    np.testing.assert_allclose(scan.mean_and_deviation(logits), (0, np.sqrt(6e76)), rtol=1e-6, atol=1e30)


@pytest.mark.parametrize("n", SIZES)
def test_draw(scan, n):
    """The position that has the point, within what rounding may move the ends; also where only some are within."""
    for logits in arrays(n):
        top = top_of(logits)
        for bound in (EVERYTHING, (top, n), (float(np.nanmedian(logits)), n // 2)):
            weights = np.exp(NUMPY_SCAN.keep(logits, logits, bound).astype(np.float64) - top)
            if not weights.any():
                continue
            ends = np.cumsum(weights) / weights.sum()
            for share in (0.0, 1e-9, 0.25, 0.5, 0.75, 1 - 2.0**-53):
                position, total = scan.draw(logits, bound, top, 1.0, share)
                assert total == pytest.approx(weights.sum(), rel=PRECISION)
                assert weights[position] > 0
                assert ends[position] >= share - PRECISION
                assert ends[position] - weights[position] / weights.sum() <= share + PRECISION


def test_all_instruction_sets_give_the_same_bits():
    logits, scans = random_logits(40_000), [KernelScan(kernels(isa)) for isa in executable_isas()]
    top = top_of(logits)

    def everything(scan: KernelScan) -> tuple:
        draws = [scan.draw(logits, EVERYTHING, top, 0.8, share) for share in np.linspace(0, 0.999, 50)]
        bounds = [scan.leading(logits, logits, top, share, False) for share in np.linspace(0, 0.999, 9)]
        sums = scan.total(logits, top, 1.25), scan.energy(logits, top), scan.mean_and_deviation(logits)
        return *draws, *bounds, *sums

    assert len({everything(scan) for scan in scans}) == 1


@pytest.mark.parametrize("n", (1, 16, 100, 513, 1100))
def test_kernels_write_their_outputs_only(n):
    """And nothing beside them: every output has guards."""
    logits, mask = Guarded.of(random_logits(n)), np.full(-(-n // 32), 2**32 - 1, np.uint32)
    floats, n_blocks, at = np.array([-1e30, 1.0], np.float32), -(-n // BLOCK), logits.address

    def run(name: str, *arguments) -> list[np.ndarray]:
        outputs = [argument for argument in arguments if isinstance(argument, Guarded)]
        values = [argument.address if isinstance(argument, Guarded) else argument for argument in arguments]
        kernels().function(name, len(values))(*values)
        return [output.check() for output in (*outputs, logits)]

    parameters = floats.ctypes.data
    maxima = Guarded((n_blocks, LANES))
    run("logit_maxima", at, n, maxima, Guarded(1))
    run("bound_of_largest", maxima, n_blocks * LANES, 1, Guarded(1))
    run("keep_logits", at, at, n, parameters, n, Guarded(n))
    run("keep_allowed", at, n, mask.ctypes.data, Guarded(n))
    run("logit_nearness", at, n, parameters, Guarded(n))
    for limit in {0, n // 2, n}:
        positions, values = Guarded(limit + LANES, np.int32), Guarded(limit + LANES)
        count = run("logits_at_least", at, n, parameters, limit, positions, values, Guarded(1, np.int64))[2]
        assert count[0] > limit or count[0] == n
    floats[0] = 9.0
    run("logit_weights", at, n, parameters, Guarded(n_blocks))
    run("logit_energies", at, n, parameters, Guarded((n_blocks, 2)))
    run("logit_moments", at, n, parameters, Guarded((n_blocks, 3)))
    doubles = Guarded.of(np.array([-1e30, 9.0, 1.0, 0.5, 0.0]))
    run("draw_logit", at, n, doubles, n, Guarded(draw_scratch_bytes(n), np.uint8), Guarded(1, np.int64))
    scratch = leading_scratch_bytes(n)
    for amount in (0.5, 0.999999):
        doubles = Guarded.of(np.array([9.0, 1.0, amount, 1.0, 0.0]))
        run("leading_logits", at, at, n, doubles, Guarded(scratch, np.uint8), Guarded(1, np.int64))
