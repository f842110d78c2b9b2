"""One key or one value of float32 into a cache page, for every cache type. Page layout: cache_layout.py."""

from numba import float32, types

from ...compiler.entry import device, entry, intp
from ...frame import PAGE_POSITIONS
from ...simd.arithmetic import absolute, max_lanes, maximum, minimum, round_to_int, splat_float
from ...simd.memory import (
    load_f32,
    load_first,
    load_u8,
    store_f16,
    store_f32,
    store_halves,
    store_low_bytes,
    store_u8,
    store_vector,
)
from .attention_tiles import padded

LARGEST_F16 = float32(65504.0)
STORE = types.void(*[intp] * 5)  # source, target (the head's page), width, position in the page, scratch


@device
def within_f16(x):
    """Values beyond float16 become its largest: an infinity in the cache would turn weights of zero into NaN."""
    return minimum(maximum(x, splat_float(-LARGEST_F16)), splat_float(LARGEST_F16))


@entry(STORE)
def store_key_f16(key, target, key_dim, position, scratch):
    """The key becomes lane position % 16 of its group of 16 positions."""
    at = target + 32 * key_dim * (position >> 4) + 2 * (position & 15)
    for i in range(key_dim):
        store_f16(at + 32 * i, min(max(load_f32(key + 4 * i), -LARGEST_F16), LARGEST_F16))


@entry(STORE)
def store_value_f16(value, target, value_dim, position, scratch):
    row = target + 2 * padded(value_dim, 16) * position
    for i in range(0, value_dim, 16):
        store_halves(row + 2 * i, within_f16(load_first(value + 4 * i, value_dim - i)))


@entry(STORE)
def store_key_f32(key, target, key_dim, position, scratch):
    at = target + 64 * key_dim * (position >> 4) + 4 * (position & 15)
    for i in range(key_dim):
        store_f32(at + 64 * i, load_f32(key + 4 * i))


@entry(STORE)
def store_value_f32(value, target, value_dim, position, scratch):
    row = target + 4 * padded(value_dim, 16) * position
    for i in range(0, value_dim, 16):
        store_vector(row + 4 * i, load_first(value + 4 * i, value_dim - i))


@device
def quantize_32(x, count, codes):
    """Up to 32 floats to int8 at `codes` (32 bytes, zero padded); the scale."""
    low, high = load_first(x, count), load_first(x + 64, count - 16)
    largest = max_lanes(maximum(absolute(low), absolute(high)))
    inverse = float32(127.0) / largest if largest > float32(0.0) else float32(0.0)
    factor = splat_float(inverse)
    store_low_bytes(codes, round_to_int(low * factor))
    store_low_bytes(codes + 16, round_to_int(high * factor))
    return largest * float32(1.0 / 127.0)


@entry(STORE)
def store_key_q8_0(key, target, key_dim, position, scratch):
    width = padded(key_dim, 32)
    at = target + 16 * width * (position >> 4) + (position & 15)
    scales = target + PAGE_POSITIONS * width + width * (position >> 4) + 2 * (position & 15)
    for block in range(width // 32):
        scale = quantize_32(key + 128 * block, key_dim - 32 * block, scratch)
        store_f16(scales + 32 * block, scale)
        for i in range(32):
            store_u8(at + 16 * (32 * block + i), load_u8(scratch + i))


@entry(STORE)
def store_value_q8_0(value, target, value_dim, position, scratch):
    width = padded(value_dim, 32)
    scales = target + PAGE_POSITIONS * width + 2 * (width // 32) * position
    for block in range(width // 32):
        codes = target + width * position + 32 * block
        store_f16(scales + 2 * block, quantize_32(value + 128 * block, value_dim - 32 * block, codes))
