"""The twelve bytes in which Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit minimums."""

import numpy as np
from numpy.typing import NDArray

from .bits import single


def scales_and_minimums(packed: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(n, 12) -> two (n, 8) of 6-bit integers. S and M are scales and minimums 0..3, s and m are 4..7.

    byte  j       ssSSSSSS   bits 0..5: scale j,    bits 6..7: upper two bits of scale j + 4
    byte  j + 4   mmMMMMMM   bits 0..5: minimum j,  bits 6..7: upper two bits of minimum j + 4
    byte  j + 8   mmmmssss   low nibble: scale j + 4,  high nibble: minimum j + 4        (j = 0..3)
    """
    first_scales, first_minimums, low_nibbles = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    last_scales = (low_nibbles & 15) | (first_scales >> 6) << 4
    last_minimums = (low_nibbles >> 4) | (first_minimums >> 6) << 4
    scales = np.concatenate([first_scales & 63, last_scales], axis=1)
    minimums = np.concatenate([first_minimums & 63, last_minimums], axis=1)
    return scales, minimums


def scaled(blocks: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The float scale and minimum of each of the eight runs of 32 values."""
    scales, minimums = scales_and_minimums(blocks["run_scales"])
    return single(blocks["scale"]) * scales, single(blocks["minimum_scale"]) * minimums
