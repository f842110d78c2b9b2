"""The passes over all logits by compiled kernels: `sampling.py` and `leading.py` of `edgellama/cpu/kernels/`."""

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from ..cpu.sampling_layout import BLOCK, LANES, draw_scratch_bytes, leading_scratch_bytes
from .scan import Bound, Found, Scan

if TYPE_CHECKING:
    from ..compiler import Kernels

KERNELS = {  # name: number of arguments
    "logit_maxima": 4,
    "bound_of_largest": 4,
    "logits_at_least": 7,
    "keep_logits": 6,
    "logit_nearness": 4,
    "keep_allowed": 4,
    "leading_logits": 6,
    "logit_weights": 4,
    "logit_energies": 4,
    "logit_moments": 4,
    "draw_logit": 6,
}
LOWEST = float(np.finfo(np.float32).min)


class KernelScan(Scan):
    """The passes of Scan, compiled. Has scratch memory, so each sampler needs its own.

    After top() of an array, likeliest() of the same array goes on from what that found.

    Weights are float32, right to 1e-6 where they matter: the exponent is rounded to float32, and its exponential is
    right to 2e-7. They are added up in one order on every instruction set.
    """

    def __init__(self, kernels: "Kernels"):
        self._run = {name: kernels.function(name, n) for name, n in KERNELS.items()}
        # What goes in and out besides arrays. After a decode step little of Python is left in the CPU's caches, so that
        # every array that need not be made counts.
        self._floats, self._doubles, self._count = (ctypes.c_float * 2)(), (ctypes.c_double * 5)(), ctypes.c_int64()
        self._floats_at, self._doubles_at, self._count_at = map(
            ctypes.addressof, (self._floats, self._doubles, self._count)
        )
        self._limit, self._scratch = -1, np.empty(0)
        self._maxima, self._nearness = np.empty(0, np.float32), np.empty(0, np.float32)
        self._maxima_of: np.ndarray | None = None

    def top(self, logits: np.ndarray) -> float:
        n_maxima = -(-len(logits) // BLOCK) * LANES
        if n_maxima != len(self._maxima):
            self._maxima = np.empty(n_maxima, np.float32)
            self._maxima_at = _address(self._maxima)
        self._run["logit_maxima"](_address(logits), len(logits), self._maxima_at, self._floats_at)
        self._maxima_of = logits
        return self._floats[0]

    def likeliest(self, logits: np.ndarray, n: int, limit: int) -> Found | None:
        if self._maxima_of is not logits:
            self.top(logits)
        self._run["bound_of_largest"](self._maxima_at, len(self._maxima), n, self._floats_at)
        return self.at_least(logits, self._floats[0], limit)

    def at_least(self, logits: np.ndarray, low: float, limit: int) -> Found | None:
        if limit > self._limit:
            self._limit = limit
            self._positions, self._values = np.empty(limit + LANES, np.int32), np.empty(limit + LANES, np.float32)
            self._found_at = _address(self._positions), _address(self._values)
        self._floats[0] = self._not_below(max(low, LOWEST))
        self._run["logits_at_least"](
            _address(logits), len(logits), self._floats_at, limit, *self._found_at, self._count_at
        )
        n = self._count.value
        return None if n > limit else (self._positions[:n].tolist(), self._values[:n].tolist())

    def keep(self, scores: np.ndarray, logits: np.ndarray, bound: Bound) -> np.ndarray:
        out = np.empty_like(logits)
        self._floats[0] = self._not_below(max(bound[0], LOWEST))
        arrays = _address(scores), _address(logits)
        self._run["keep_logits"](*arrays, len(logits), self._floats_at, bound[1], _address(out))
        return out

    def allowed(self, logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
        out = np.empty_like(logits)
        self._run["keep_allowed"](_address(logits), len(logits), _address(mask), _address(out))
        return out

    def nearness(self, logits: np.ndarray, center: float) -> np.ndarray:
        if len(logits) != len(self._nearness):
            self._nearness = np.empty_like(logits)
        self._floats[0] = center
        self._run["logit_nearness"](_address(logits), len(logits), self._floats_at, _address(self._nearness))
        return self._nearness

    def leading(self, scores: np.ndarray, logits: np.ndarray, top: float, share: float, exceed: bool) -> Bound:
        return self._leading(scores, logits, top, 1.0, share, True, exceed)

    def highest(self, scores: np.ndarray, n: int) -> Bound:
        return self._leading(scores, scores, 0.0, 0.0, n, False, False)  # a factor of 0: all weights are 1

    def _leading(self, scores: np.ndarray, logits: np.ndarray, *parameters: float) -> Bound:
        self._doubles[:] = parameters
        scratch = self._scratch_of(leading_scratch_bytes(len(logits)))
        arrays = _address(scores), _address(logits)
        self._run["leading_logits"](*arrays, len(logits), self._doubles_at, scratch, self._count_at)
        return self._doubles[0], self._count.value

    def total(self, logits: np.ndarray, top: float, factor: float = 1.0) -> float:
        self._floats[:] = top, factor
        return float(self._sums("logit_weights", 1, logits)[0])

    def energy(self, logits: np.ndarray, top: float) -> tuple[float, float]:
        self._floats[:] = top, 1.0
        total, energy = self._sums("logit_energies", 2, logits)
        return float(total), float(energy)

    def mean_and_deviation(self, logits: np.ndarray) -> tuple[float, float]:
        self._floats[0] = 0.0
        n, total, _ = self._sums("logit_moments", 3, logits)
        self._floats[0] = total / n  # nearly the mean, so that the squares of differences lose no digits
        pivot = self._floats[0]
        _, total, squares = self._sums("logit_moments", 3, logits)
        variance = squares / n - (total / n) ** 2
        if not np.isfinite(variance):  # beyond float32
            return super().mean_and_deviation(logits)
        return float(pivot + total / n), float(np.sqrt(max(variance, 0.0)))

    def draw(self, logits: np.ndarray, bound: Bound, top: float, factor: float, share: float) -> tuple[int, float]:
        n, scratch = len(logits), self._scratch_of(draw_scratch_bytes(len(logits)))
        self._doubles[:4] = self._not_below(max(bound[0], LOWEST)), top, factor, share
        self._run["draw_logit"](_address(logits), n, self._doubles_at, bound[1], scratch, self._count_at)
        return self._count.value, self._doubles[0]

    def _sums(self, name: str, n_sums: int, logits: np.ndarray) -> np.ndarray:
        """float64 (n_sums,) from a kernel that adds up blocks."""
        n_blocks = -(-len(logits) // BLOCK)
        out = np.empty((n_blocks, n_sums), np.float32)
        self._run[name](_address(logits), len(logits), self._floats_at, _address(out))
        return out.sum(axis=0, dtype=np.float64)

    def _scratch_of(self, n_bytes: int) -> int:
        """The address of so much memory, or more."""
        if n_bytes > self._scratch.nbytes:
            self._scratch = np.empty(-(-n_bytes // 8))
        return _address(self._scratch)

    def _not_below(self, bound: float) -> float:
        """The lowest float32 that is at least the bound."""
        self._floats[0] = bound
        nearest = self._floats[0]
        return nearest if nearest >= bound else float(np.nextafter(np.float32(nearest), np.float32(np.inf)))


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
