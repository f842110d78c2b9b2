"""What the row decoders share. A decoder turns one row of a GGUF tensor, as it lies in the file, into

    codes     uint8 [n_columns]        integer + 128
    scales    float32 [n_columns/16]   value = scale * (code - 128) + minimum
    minimums  float32 [n_columns/16]   the format's minimum, negated

and reads no byte outside the row. `codes` starts at a multiple of 8.
"""

import numpy as np
from numba import types

from ...compiler.entry import device, intp
from ...formats.iq4_nl import LEVELS
from ...simd.arithmetic import splat_float, splat_int, to_float, zero_float
from ...simd.memory import store_bytes16, store_f32, store_first, store_vector
from ...simd.unpack import field16, make_look_up16

ROW = types.void(intp, types.int64, intp, intp, intp)
level_iq4_nl = make_look_up16(LEVELS.astype(np.int64) + 128)


@device
def clear_minimums(minimums, n_columns):
    """For a format without minimums. By vectors: LLVM would make a slow scatter of a loop over floats."""
    n_runs = n_columns // 16
    for run in range(0, n_runs, 16):
        store_first(minimums + 4 * run, zero_float(), n_runs - run)


@device
def store_twice(address, value):
    """One value per 32 columns as two per 16."""
    store_f32(address, value)
    store_f32(address + 4, value)


@device
def store_nibbles(codes, packed, offset):
    """16 bytes to 32 codes, low nibbles first; `offset` makes the format's zero 128."""
    store_bytes16(codes, field16(packed, 0, 15) + offset)
    store_bytes16(codes + 16, field16(packed, 4, 15) + offset)


@device
def store_odd_scales(scales, unit, steps):
    """The 16 scales unit * (2 * step + 1) of a super-block."""
    store_vector(scales, splat_float(unit) * to_float(steps + steps + splat_int(1)))
