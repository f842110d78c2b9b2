"""Encoders of blocks of 32 with one float16 scale that search for it: IQ4_NL, and with importance Q4_0 to Q5_1."""

from numba import float32

from edgellama.compiler.entry import device, entry
from edgellama.simd.arithmetic import splat_float, zero_float
from edgellama.simd.memory import load_f32, store_f16, store_vector

from . import affine, symmetric
from .lanes import LANES, rounded_to_half
from .levels import code_iq4_nl, code_of_4_bits, code_of_5_bits, level_iq4_nl, level_of_4_bits, level_of_5_bits
from .parts import ENCODER, inverse_or_zero, pack_fields
from .rounded import BLOCK, store_fifth_bits
from .runs import CODES, FIELDS, clear_weights, load_runs, run_sums

SET_VALUES = LANES * BLOCK
INVERSES, STARTS, SCALES, OFFSETS = FIELDS, FIELDS + 64, FIELDS + 128, FIELDS + 192


@device
def fit_scales(values, nearest_level, code_of, ends, trial_step, scratch):
    """A set of blocks without minimum: codes and fields to scratch."""
    scale = rounded_to_half(symmetric.fit_runs(scratch, BLOCK, nearest_level, ends, trial_step))
    store_vector(scratch + SCALES, scale)
    store_vector(scratch + INVERSES, inverse_or_zero(scale))
    symmetric.store_run_codes(values, BLOCK, code_of, scratch + INVERSES, scratch + CODES)


@device
def fit_scales_and_offsets(values, n_codes, scratch):
    """A set of blocks with an offset of either sign: codes and fields to scratch."""
    sums, top = run_sums(scratch, BLOCK), splat_float(float32(n_codes - 1))
    scale, minimum = affine.fit_runs(scratch, BLOCK, sums, top, splat_float(affine.FREE), float32(-1.2))
    scale, offset = rounded_to_half(scale), rounded_to_half(zero_float() - minimum)
    inverse = inverse_or_zero(scale)
    store_vector(scratch + SCALES, scale)
    store_vector(scratch + OFFSETS, offset)
    store_vector(scratch + INVERSES, inverse)
    store_vector(scratch + STARTS, (zero_float() - offset) * inverse)
    affine.store_run_codes(values, BLOCK, top, scratch + INVERSES, scratch + STARTS, scratch + CODES)


@device
def store_blocks(n_blocks, has_offset, has_fifth_bit, target, scratch):
    """Scale, offset, fifth bits, low nibbles; the address behind the last block."""
    for block in range(n_blocks):
        codes = scratch + CODES + BLOCK * block
        store_f16(target, load_f32(scratch + SCALES + 4 * block))
        target += 2
        if has_offset:
            store_f16(target, load_f32(scratch + OFFSETS + 4 * block))
            target += 2
        if has_fifth_bit:
            store_fifth_bits(codes, target)
            target += 4
        pack_fields(codes, target, 16, 16, 4, 0)
        target += 16
    return target


@device
def encode_levels(source, importance, n_rows, n_columns, target, scratch, nearest_level, code_of, ends, trial_step):
    """`ends` are the first and the last level."""
    n_values = n_rows * n_columns
    clear_weights(scratch)
    for first in range(0, n_values, SET_VALUES):
        values = load_runs(source, importance, first, n_values, n_columns, BLOCK, scratch)
        fit_scales(values, nearest_level, code_of, ends, trial_step, scratch)
        n_blocks = min(LANES, (n_values - first) // BLOCK)
        target = store_blocks(n_blocks, False, ends[1] == float32(15), target, scratch)


@device
def encode_offsets(source, importance, n_rows, n_columns, target, scratch, n_codes):
    n_values = n_rows * n_columns
    clear_weights(scratch)
    for first in range(0, n_values, SET_VALUES):
        values = load_runs(source, importance, first, n_values, n_columns, BLOCK, scratch)
        fit_scales_and_offsets(values, n_codes, scratch)
        n_blocks = min(LANES, (n_values - first) // BLOCK)
        target = store_blocks(n_blocks, True, n_codes == 32, target, scratch)


@entry(ENCODER)
def encode_iq4_nl(source, importance, n_rows, n_columns, target, scratch):
    encode_levels(
        source, importance, n_rows, n_columns, target, scratch,
        level_iq4_nl, code_iq4_nl, (float32(-127), float32(113)), float32(6),
    )  # fmt: skip


@entry(ENCODER)
def search_q4_0(source, importance, n_rows, n_columns, target, scratch):
    encode_levels(
        source, importance, n_rows, n_columns, target, scratch,
        level_of_4_bits, code_of_4_bits, (float32(-8), float32(7)), float32(0.3),
    )  # fmt: skip


@entry(ENCODER)
def search_q5_0(source, importance, n_rows, n_columns, target, scratch):
    encode_levels(
        source, importance, n_rows, n_columns, target, scratch,
        level_of_5_bits, code_of_5_bits, (float32(-16), float32(15)), float32(0.5),
    )  # fmt: skip


@entry(ENCODER)
def search_q4_1(source, importance, n_rows, n_columns, target, scratch):
    encode_offsets(source, importance, n_rows, n_columns, target, scratch, 16)


@entry(ENCODER)
def search_q5_1(source, importance, n_rows, n_columns, target, scratch):
    encode_offsets(source, importance, n_rows, n_columns, target, scratch, 32)
