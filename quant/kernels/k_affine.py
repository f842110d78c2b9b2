"""Encoders of Q2_K, Q4_K and Q5_K: super-blocks of 256 values with a scale and a minimum per run."""

from numba import float32

from edgellama.compiler.entry import device, entry
from edgellama.simd.arithmetic import splat_float, zero_float
from edgellama.simd.memory import load_f32, load_u8, store_f16, store_low_bytes, store_u8, store_vector

from .affine import fit_runs, quantize_steps, store_run_codes
from .lanes import LANES, to_int
from .parts import ENCODER, inverse_or_zero, pack_fields
from .runs import CODES, FIELDS, clear_weights, load_runs, run_sums

BLOCK = 256
INVERSES, STARTS, SCALES, UNITS = (FIELDS + 64 * i for i in range(4))  # one float32 per run each
STEPS, MINIMUM_STEPS = FIELDS + 256, FIELDS + 272  # 16 bytes each


@device
def encode_set(values, length, n_codes, first_range, n_steps, reach, scratch):
    """16 runs that are loaded: codes and fields to scratch."""
    top, top_step = splat_float(float32(n_codes - 1)), splat_float(float32(n_steps - 1))
    sums = run_sums(scratch, length)
    scale, minimum = fit_runs(scratch, length, sums, top, zero_float(), first_range)
    n_group = BLOCK // length
    units, steps = quantize_steps(scratch, length, sums, scale, minimum, top, top_step, n_group, reach)
    inverse = inverse_or_zero(units[0] * steps[0])
    store_vector(scratch + INVERSES, inverse)
    store_vector(scratch + STARTS, units[1] * steps[1] * inverse)
    store_vector(scratch + SCALES, units[0])
    store_vector(scratch + UNITS, units[1])
    store_low_bytes(scratch + STEPS, to_int(steps[0]))
    store_low_bytes(scratch + MINIMUM_STEPS, to_int(steps[1]))
    store_run_codes(values, length, top, scratch + INVERSES, scratch + STARTS, scratch + CODES)


@device
def store_units(scratch, lane, target):
    """The two float16 of the group that `lane` belongs to."""
    store_f16(target, load_f32(scratch + SCALES + 4 * lane))
    store_f16(target + 2, load_f32(scratch + UNITS + 4 * lane))


@device
def store_six_bits(steps, minimums, target):
    """8 + 8 steps of 6 bits in 12 bytes; the layout is in formats/k_scales.py."""
    for j in range(4):
        step, minimum = load_u8(steps + j), load_u8(minimums + j)
        late_step, late_minimum = load_u8(steps + 4 + j), load_u8(minimums + 4 + j)
        store_u8(target + j, step | (late_step >> 4) << 6)
        store_u8(target + 4 + j, minimum | (late_minimum >> 4) << 6)
        store_u8(target + 8 + j, (late_step & 15) | (late_minimum & 15) << 4)


@entry(ENCODER)
def encode_q2_k(source, importance, n_rows, n_columns, target, scratch):
    n_values = n_rows * n_columns
    clear_weights(scratch)
    for first in range(0, n_values, BLOCK):
        values = load_runs(source, importance, first, n_values, n_columns, 16, scratch)
        encode_set(values, 16, 4, float32(-0.9), 16, 2, scratch)
        for run in range(LANES):
            store_u8(target + run, load_u8(scratch + STEPS + run) | load_u8(scratch + MINIMUM_STEPS + run) << 4)
        pack_fields(scratch + CODES, target + 16, 64, 32, 2, 0)
        store_units(scratch, 0, target + 80)
        target += 84


@device
def encode_six_bit_steps(source, importance, n_rows, n_columns, target, scratch, n_codes, first_range):
    """Q4_K and Q5_K; a set of runs is two super-blocks."""
    n_values = n_rows * n_columns
    clear_weights(scratch)
    for first in range(0, n_values, 2 * BLOCK):
        values = load_runs(source, importance, first, n_values, n_columns, 32, scratch)
        encode_set(values, 32, n_codes, first_range, 64, 1, scratch)
        for side in range(min(2, (n_values - first) // BLOCK)):
            codes = scratch + CODES + BLOCK * side
            store_units(scratch, 8 * side, target)
            store_six_bits(scratch + STEPS + 8 * side, scratch + MINIMUM_STEPS + 8 * side, target + 4)
            target += 16
            if n_codes == 32:
                pack_fields(codes, target, 32, 32, 1, 4)
                target += 32
            pack_fields(codes, target, 128, 32, 4, 0)
            target += 128


@entry(ENCODER)
def encode_q4_k(source, importance, n_rows, n_columns, target, scratch):
    encode_six_bit_steps(source, importance, n_rows, n_columns, target, scratch, 16, float32(-1.2))


@entry(ENCODER)
def encode_q5_k(source, importance, n_rows, n_columns, target, scratch):
    encode_six_bit_steps(source, importance, n_rows, n_columns, target, scratch, 32, float32(-1.5))
