"""Encoders of Q3_K, Q6_K and IQ4_XS: super-blocks of 256 values with a signed scale per run."""

from numba import float32

from edgellama.compiler.entry import device, entry
from edgellama.simd.arithmetic import splat_float
from edgellama.simd.memory import (
    load_f32,
    load_u8,
    store_f16,
    store_low_bytes,
    store_u8,
    store_u16,
    store_vector,
)

from .lanes import to_int
from .levels import (
    code_iq4_nl,
    code_of_3_bits,
    code_of_6_bits,
    level_iq4_nl,
    level_of_3_bits,
    level_of_6_bits,
)
from .parts import ENCODER, inverse_or_zero, pack_fields
from .runs import CODES, FIELDS, clear_weights, load_runs
from .symmetric import fit_runs, quantize_steps, store_run_codes

BLOCK = 256
INVERSES, UNITS, STEPS = FIELDS, FIELDS + 64, FIELDS + 128


@device
def encode_set(values, length, nearest_level, code_of, ends, trial_step, step_ends, scratch):
    """16 runs that are loaded: codes and fields to scratch. Steps are stored as bytes from 0 on."""
    scale = fit_runs(scratch, length, nearest_level, ends, trial_step)
    low_step, high_step = splat_float(step_ends[0]), splat_float(step_ends[1])
    unit, step = quantize_steps(scratch, length, scale, nearest_level, low_step, high_step, BLOCK // length)
    store_vector(scratch + INVERSES, inverse_or_zero(unit * step))
    store_vector(scratch + UNITS, unit)
    store_low_bytes(scratch + STEPS, to_int(step - low_step))
    store_run_codes(values, length, code_of, scratch + INVERSES, scratch + CODES)


@entry(ENCODER)
def encode_q3_k(source, importance, n_rows, n_columns, target, scratch):
    n_values, steps = n_rows * n_columns, scratch + STEPS
    clear_weights(scratch)
    for first in range(0, n_values, BLOCK):
        values = load_runs(source, importance, first, n_values, n_columns, 16, scratch)
        encode_set(
            values, 16, level_of_3_bits, code_of_3_bits, (float32(-4), float32(3)), float32(0.3),
            (float32(-32), float32(31)), scratch,
        )  # fmt: skip
        pack_fields(scratch + CODES, target, 32, 32, 1, 2)
        pack_fields(scratch + CODES, target + 32, 64, 32, 2, 0)
        for run in range(8):
            store_u8(target + 96 + run, (load_u8(steps + run) & 15) | (load_u8(steps + run + 8) & 15) << 4)
        for run in range(4):
            upper = 0
            for i in range(4):
                upper |= (load_u8(steps + run + 4 * i) >> 4) << 2 * i
            store_u8(target + 104 + run, upper)
        store_f16(target + 108, load_f32(scratch + UNITS))
        target += 110


@entry(ENCODER)
def encode_q6_k(source, importance, n_rows, n_columns, target, scratch):
    n_values = n_rows * n_columns
    clear_weights(scratch)
    for first in range(0, n_values, BLOCK):
        values = load_runs(source, importance, first, n_values, n_columns, 16, scratch)
        encode_set(
            values, 16, level_of_6_bits, code_of_6_bits, (float32(-32), float32(31)), float32(1),
            (float32(-128), float32(127)), scratch,
        )  # fmt: skip
        pack_fields(scratch + CODES, target, 128, 64, 4, 0)
        pack_fields(scratch + CODES, target + 128, 64, 32, 2, 4)
        for run in range(16):
            store_u8(target + 192 + run, load_u8(scratch + STEPS + run) ^ 128)
        store_f16(target + 208, load_f32(scratch + UNITS))
        target += 210


@entry(ENCODER)
def encode_iq4_xs(source, importance, n_rows, n_columns, target, scratch):
    n_values = n_rows * n_columns
    clear_weights(scratch)
    for first in range(0, n_values, 2 * BLOCK):
        values = load_runs(source, importance, first, n_values, n_columns, 32, scratch)
        encode_set(
            values, 32, level_iq4_nl, code_iq4_nl, (float32(-127), float32(113)), float32(6),
            (float32(-32), float32(31)), scratch,
        )  # fmt: skip
        for side in range(min(2, (n_values - first) // BLOCK)):
            steps, upper = scratch + STEPS + 8 * side, 0
            store_f16(target, load_f32(scratch + UNITS + 32 * side))
            for run in range(8):
                upper |= (load_u8(steps + run) >> 4) << 2 * run
            store_u16(target + 2, upper)
            for j in range(4):
                store_u8(target + 4 + j, (load_u8(steps + 2 * j) & 15) | (load_u8(steps + 2 * j + 1) & 15) << 4)
            pack_fields(scratch + CODES + BLOCK * side, target + 8, 128, 16, 4, 0)
            target += 136
