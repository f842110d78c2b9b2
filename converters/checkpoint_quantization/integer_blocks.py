"""Rows of integers in groups cut into blocks of 32, and GGUF's blocks that hold the same integers.

    Q4_0    scale * (code - 8)         2 to 4 bits where code - zero + 8 is within 0..15: zero 8 for 4 bits
    Q4_1    scale * code + minimum     2 to 4 bits else, with minimum = -scale * zero
    Q8_0    scale * code               8 bits with zero 128

Scales and minima become float16. Nothing else is rounded.
"""

import numpy as np
from numpy.typing import NDArray

from edgellama import formats

BLOCK_VALUES = 32
DTYPE = np.dtype([("scale", "<f4"), ("zero", "<f4"), ("codes", "u1", BLOCK_VALUES)])
HAS_MINIMUM = {"q4_0": False, "q4_1": True, "q8_0": False}


def types_for(bits: int, lowest_zero: int, highest_zero: int) -> tuple[str, ...]:
    """The types that can hold such codes, best first: the smallest that is as exact as any."""
    if bits == 8:
        return ("q8_0",) if lowest_zero == highest_zero == 128 else ()
    is_centred = highest_zero <= 8 and (1 << bits) - 1 - lowest_zero <= 7
    return ("q4_0", "q4_1") if is_centred else ("q4_1",)


def widen(blocks: NDArray) -> NDArray[np.float32]:
    """(n_rows, n_blocks) of DTYPE -> (n_rows, n_columns)."""
    values = blocks["codes"].astype(np.float32)
    values -= blocks["zero"][..., None]
    values *= blocks["scale"][..., None]
    return values.reshape(len(blocks), -1)


def _as_q4_0(blocks: NDArray) -> NDArray[np.uint8]:
    codes = blocks["codes"] + (8 - blocks["zero"]).astype(np.int8).view(np.uint8)[..., None]
    return _bytes("q4_0", blocks, codes=_nibbles(codes))


def _as_q4_1(blocks: NDArray) -> NDArray[np.uint8]:
    return _bytes("q4_1", blocks, offset=-blocks["scale"] * blocks["zero"], codes=_nibbles(blocks["codes"]))


def _as_q8_0(blocks: NDArray) -> NDArray[np.uint8]:
    return _bytes("q8_0", blocks, codes=(blocks["codes"] ^ np.uint8(128)).view(np.int8))


def _nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Value j in the low half of byte j, value j + 16 in the high half."""
    return codes[..., :16] | codes[..., 16:] << np.uint8(4)


def _bytes(type_name: str, blocks: NDArray, **fields: NDArray) -> NDArray[np.uint8]:
    """Rows of a format's blocks, with the scales of `blocks`. Raises ValueError where float16 overflows."""
    made = np.empty(blocks.shape, formats.by_name(type_name).dtype)
    fields["scale"] = blocks["scale"]
    for name, values in fields.items():
        with np.errstate(over="ignore"):
            made[name] = values
        if values.dtype == np.float32 and not np.isfinite(made[name]).all():
            raise ValueError(f"a {name} of {np.abs(values).max():g} does not fit float16")
    return made.view(np.uint8).reshape(len(blocks), -1)


MAKERS = {"q4_0": _as_q4_0, "q4_1": _as_q4_1, "q8_0": _as_q8_0}
