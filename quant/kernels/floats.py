"""Rows of ordinary numbers: to and from 16-bit floats, and the largest magnitude."""

from numba import types

from edgellama.compiler.entry import device, entry, intp
from edgellama.simd.arithmetic import absolute, fma, max_lanes, shift_right, splat_int, sum_lanes, zero_float
from edgellama.simd.memory import (
    load_bfloats,
    load_f16,
    load_f32,
    load_first,
    load_halves,
    load_u16,
    load_vector,
    store_f16,
    store_f32,
    store_halves,
    store_u16,
    store_vector,
)

from .lanes import bits_of, bits_of_float, float_of_bits, larger, store_low_words
from .parts import ENCODER

WIDEN = types.void(intp, types.int64, intp)


@entry(WIDEN)
def widen_f16(source, n_values, target):
    """float16 to float32."""
    whole = n_values & ~15
    for i in range(0, whole, 16):
        store_vector(target + 4 * i, load_halves(source + 2 * i))
    for i in range(whole, n_values):
        store_f32(target + 4 * i, load_f16(source + 2 * i))


@entry(WIDEN)
def widen_bf16(source, n_values, target):
    """bfloat16 to float32."""
    whole = n_values & ~15
    for i in range(0, whole, 16):
        store_vector(target + 4 * i, load_bfloats(source + 2 * i))
    for i in range(whole, n_values):
        store_f32(target + 4 * i, float_of_bits(load_u16(source + 2 * i) << 16))


@entry(WIDEN)
def peak(source, n_values, target):
    """The largest magnitude of float32 values, as one float32; NaN where any value is not finite."""
    largest, poison = zero_float(), zero_float()
    for i in range(0, n_values, 16):
        x = load_first(source + 4 * i, n_values - i)
        largest = larger(absolute(x), largest)
        poison = fma(x, zero_float(), poison)  # infinity times zero is NaN, and NaN stays
    store_f32(target, max_lanes(largest) + sum_lanes(poison))


@entry(ENCODER)
def encode_f16(source, importance, n_rows, n_columns, target, scratch):
    n_values = n_rows * n_columns
    whole = n_values & ~15
    for i in range(0, whole, 16):
        store_halves(target + 2 * i, load_vector(source + 4 * i))
    for i in range(whole, n_values):
        store_f16(target + 2 * i, load_f32(source + 4 * i))


@device
def bfloat_bits(bits):
    """The upper half of a float32 rounded to even; the carry may run into the exponent, as it should."""
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


@entry(ENCODER)
def encode_bf16(source, importance, n_rows, n_columns, target, scratch):
    n_values = n_rows * n_columns
    whole = n_values & ~15
    for i in range(0, whole, 16):
        bits = bits_of(load_vector(source + 4 * i))
        odd = shift_right(bits, 16) & splat_int(1)
        store_low_words(target + 2 * i, shift_right(bits + splat_int(0x7FFF) + odd, 16))
    for i in range(whole, n_values):
        store_u16(target + 2 * i, bfloat_bits(bits_of_float(load_f32(source + 4 * i))))
