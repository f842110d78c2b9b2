"""Small kernels that expose the SIMD layer one operation at a time, for test_simd.py and test_codegen.py."""

from numba import types

from edgellama.compiler.entry import entry
from edgellama.simd import arithmetic, control, dot, memory, tile

intp = types.intp
TWO, THREE, FOUR, FIVE = (types.void(*[intp] * n) for n in (2, 3, 4, 5))


@entry(FIVE)
def dot4_bytes(acc, w, x, negative_sum, out):
    """acc + dot4 of the bytes less 128; the start is what a run over bytes begins with."""
    start = memory.load_ints(acc) + dot.start_bytes(negative_sum)
    memory.store_ints(out, dot.dot4_bytes(start, memory.load_bytes(w), x))


@entry(FOUR)
def dot4_small(acc, w, x, out):
    memory.store_ints(out, dot.dot4_small(memory.load_ints(acc), memory.load_bytes(w), x))


@entry(TWO)
def exponential(x, out):
    memory.store_vector(out, arithmetic.exponential(memory.load_vector(x)))


@entry(THREE)
def copy_first(x, out, count):
    memory.store_first(out, memory.load_first(x, count), count)


@entry(FOUR)
def select_first(x, y, out, count):
    memory.store_vector(out, arithmetic.select_first(memory.load_vector(x), memory.load_vector(y), count))


@entry(THREE)
def sums(x, out, n_vectors):
    """The sum of all floats, by lanes and then across, and the largest."""
    total = arithmetic.zero_float()
    largest = memory.load_vector(x)
    for i in range(n_vectors):
        value = memory.load_vector(x + 64 * i)
        total, largest = total + value, arithmetic.maximum(largest, value)
    memory.store_f32(out, arithmetic.sum_lanes(total))
    memory.store_f32(out + 4, arithmetic.max_lanes(largest))


@entry(TWO)
def sum_ints(x, out):
    memory.store_i64(out, arithmetic.sum_int_lanes(memory.load_ints(x)))


@entry(THREE)
def nibbles(x, low, high):
    memory.store_bytes(low, arithmetic.low_nibbles(memory.load_bytes(x)))
    memory.store_bytes(high, arithmetic.high_nibbles(memory.load_bytes(x)))


@entry(THREE)
def nibbles16(x, low, high):
    memory.store_bytes16(low, arithmetic.low_nibbles16(memory.load_bytes16(x)))
    memory.store_bytes16(high, arithmetic.high_nibbles16(memory.load_bytes16(x)))


@entry(TWO)
def halves_to_floats(x, out):
    memory.store_vector(out, memory.load_halves(x))


@entry(THREE)
def packed_halves_to_floats(x, low, high):
    memory.store_vector(low, arithmetic.low_halves(memory.load_ints(x)))
    memory.store_vector(high, arithmetic.high_halves(memory.load_ints(x)))


@entry(TWO)
def half_to_float(x, out):
    memory.store_f32(out, memory.load_f16(x))


@entry(TWO)
def floats_to_halves(x, out):
    memory.store_halves(out, memory.load_vector(x))


@entry(TWO)
def float_to_half(x, out):
    memory.store_f16(out, memory.load_f32(x))


@entry(TWO)
def bfloats_to_floats(x, out):
    memory.store_vector(out, memory.load_bfloats(x))


@entry(TWO)
def bytes_to_ints(x, out):
    """Signed bytes, unsigned bytes, then the four bytes of every 32-bit lane."""
    memory.store_ints(out, memory.load_signed_bytes(x))
    memory.store_ints(out + 64, memory.load_unsigned_bytes(x))
    for i in range(4):
        memory.store_ints(out + 128 + 64 * i, arithmetic.signed_byte(memory.load_ints(x), i))


@entry(TWO)
def round_to_int(x, out):
    memory.store_ints(out, arithmetic.round_to_int(memory.load_vector(x)))


@entry(FOUR)
def fma(a, b, c, out):
    product = arithmetic.fma(memory.load_vector(a), memory.load_vector(b), memory.load_vector(c))
    memory.store_vector(out, product)


TILE = tile.make_tile(tile.TOKENS)
start_ints, start_bytes, dot_small, dot_bytes = TILE.start_ints, TILE.start_bytes, TILE.dot_small, TILE.dot_bytes
add_scaled, add_outer, zero_floats, spill = TILE.add_scaled, TILE.add_outer, TILE.zero_floats, TILE.spill


@entry(TWO)
def tile_shape(tokens, halves):
    memory.store_i64(tokens, tile.TOKENS)
    memory.store_i64(halves, tile.HALVES)


@entry(types.void(*[intp] * 7))
def tile_product(n_quads, weights, activations, starts, scales, token_scales, out):
    """One block of a matrix product: out = (starts << 1 + weights · activations) * scales * token_scales."""
    sums = start_ints(starts, 1)
    for quad in range(n_quads):
        sums = dot_small(sums, weights + 64 * tile.HALVES * quad, activations + 4 * tile.TOKENS * quad)
    total = add_scaled(zero_floats(), sums, tile.load_halves_f32(scales), token_scales)
    spill(total, out)


@entry(types.void(*[intp] * 7))
def tile_product_of_bytes(n_quads, weights, activations, negative_sums, scales, token_scales, out):
    """The same for weights around 128."""
    sums = start_bytes(negative_sums)
    for quad in range(n_quads):
        sums = dot_bytes(sums, weights + 64 * tile.HALVES * quad, activations + 4 * tile.TOKENS * quad)
    total = add_scaled(zero_floats(), sums, tile.load_halves_f32(scales), token_scales)
    spill(total, out)


@entry(FOUR)
def tile_outer(n_columns, rows, columns, out):
    """out = sum over k of rows[k] * columns[k], in order."""
    total = zero_floats()
    for k in range(n_columns):
        row = tile.load_halves_f32(rows + 64 * tile.HALVES * k)
        total = add_outer(total, row, columns + 4 * tile.TOKENS * k)
    spill(total, out)


@entry(TWO)
def count_up(counter, n):
    for _ in range(n):
        control.atomic_add(counter, 1)


@entry(THREE)
def locked_count_up(lock, counter, n):
    """A plain addition behind a lock made of compare_and_swap and atomic_store."""
    for _ in range(n):
        while control.compare_and_swap(lock, 0, 1) != 0:
            control.pause()
        memory.store_i64(counter, memory.load_i64(counter) + 1)
        control.atomic_store(lock, 0)
