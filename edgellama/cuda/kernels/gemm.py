"""A matrix times many rows of activations, as in prefill: 128 tokens x 128 rows of the matrix a block of threads.

Tensor cores multiply halves and sum in float32 (mma.sync, ldmatrix: PTX ISA). Activations come as halves (prepare.py)
by asynchronous copies; weights are loaded in their own format, and become halves on their way to shared memory, once
for 128 tokens. Two stages of 64 columns: while one is multiplied the other is on its way.

A stage is [128 rows][64 columns] of halves for each side. Piece p of 8 columns of row r lies at place p ^ (r % 8), so
that neither the stores nor ldmatrix meet in a bank of memory.
"""

from types import SimpleNamespace

from ...compiler.entry import device
from ...ops import ADD, SWIGLU
from ..simt.thread import (
    block_barrier,
    block_index,
    block_index_y,
    commit_copies,
    constant_f32,
    copy_async,
    load_f32,
    load_matrices,
    multiply_high,
    multiply_low,
    shared_memory,
    shared_store_words,
    start_next,
    store_f32,
    thread_index,
    wait_copies,
    wait_for_previous,
)
from ..simt.vectors import first, fourth, join_pairs, second, splat4, third, to_halves, zero4
from .blocks import KINDS
from .launch import INT, kernel
from .matvec import MATRIX, silu

THREADS, TOKENS, ROWS, COLUMNS = 256, 128, 128, 64  # of a block of threads: its size and its tile
STAGE_BYTES = 2 * COLUMNS * 128  # of one side
SHARED_BYTES = 4 * STAGE_BYTES


@device
def place(stage, row, piece):
    """Address of 8 columns of a row."""
    return stage + 128 * row + 16 * (piece ^ (row & 7))


@device
def send_activations(x, n_columns, first_token, step, stage):
    """Ask for the stage's 128 tokens x 64 columns: 4 pieces a thread."""
    thread = thread_index()
    piece, token = thread & 7, thread >> 3
    source = x + 2 * ((first_token + token) * n_columns + COLUMNS * step + 8 * piece)
    for _ in range(4):
        copy_async(place(stage, token, piece), source)
        token += 32
        source += 64 * n_columns
    commit_copies()


@device
def store_block(stage, row, half, values, factor):
    """32 values of a row as halves; `half`: which half of the stage's columns."""
    scale = splat4(factor)
    for index in range(4):
        low, high = to_halves(values[2 * index] * scale), to_halves(values[2 * index + 1] * scale)
        shared_store_words(place(stage, row, 4 * half + index), join_pairs(low, high))


@device
def store_nothing(stage, row, half):
    zeros = to_halves(zero4(0))
    for index in range(4):
        shared_store_words(place(stage, row, 4 * half + index), join_pairs(zeros, zeros))


@device
def finish_pair(out, pitch, token, row, n_rows, n_tokens, a, b, power, bias, mode):
    """Two neighbouring rows of one token."""
    if token >= n_tokens or row >= n_rows:
        return
    a, b = a * power, b * power
    if mode == SWIGLU:
        store_f32(out + 4 * (pitch * token + (row >> 1)), silu(a) * b)
        return
    at = out + 4 * (pitch * token + row)
    if bias != 0:
        a += constant_f32(bias + 4 * row)
        if row + 1 < n_rows:
            b += constant_f32(bias + 4 * row + 4)
    if mode == ADD:
        a += load_f32(at)
        if row + 1 < n_rows:
            b += load_f32(at + 4)
    store_f32(at, a)
    if row + 1 < n_rows:
        store_f32(at + 4, b)


@device
def finish_tile(out, pitch, token, row, n_rows, n_tokens, powers, bias, mode, c0, c1, c2, c3):
    """16 tokens x 32 rows of a warp: four products of 16 x 8."""
    lane = thread_index() & 31
    token, row = token + (lane >> 2), row + 2 * (lane & 3)
    low = load_f32(powers + 4 * min(token, n_tokens - 1))
    high = load_f32(powers + 4 * min(token + 8, n_tokens - 1))
    finish_pair(out, pitch, token, row, n_rows, n_tokens, first(c0), second(c0), low, bias, mode)
    finish_pair(out, pitch, token + 8, row, n_rows, n_tokens, third(c0), fourth(c0), high, bias, mode)
    finish_pair(out, pitch, token, row + 8, n_rows, n_tokens, first(c1), second(c1), low, bias, mode)
    finish_pair(out, pitch, token + 8, row + 8, n_rows, n_tokens, third(c1), fourth(c1), high, bias, mode)
    finish_pair(out, pitch, token, row + 16, n_rows, n_tokens, first(c2), second(c2), low, bias, mode)
    finish_pair(out, pitch, token + 8, row + 16, n_rows, n_tokens, third(c2), fourth(c2), high, bias, mode)
    finish_pair(out, pitch, token, row + 24, n_rows, n_tokens, first(c3), second(c3), low, bias, mode)
    finish_pair(out, pitch, token + 8, row + 24, n_rows, n_tokens, third(c3), fourth(c3), high, bias, mode)


def make_gemm(name: str, kind: SimpleNamespace) -> None:
    """Export gemm_NAME."""
    load, values, factor = kind.load, kind.values, kind.factor

    @kernel(*MATRIX, INT, INT, INT, INT, INT, INT, INT, INT, INT, INT, threads=THREADS, name=f"gemm_{name}")
    def gemm(codes, scales, extras, run, x, powers, bias, out, n_rows, n_blocks, n_tokens, padded, pitch, mode):
        """out[t, r] (=, +=) sum_k matrix[r, k] x[t, k] (+ bias[r]), or silu(gate) up of rows 2 r and 2 r + 1.

        x: halves [tokens rounded up to 128][padded], `padded` a multiple of 64. Blocks (tokens / 128, rows / 128).
        """
        thread, shared = thread_index(), shared_memory()
        lane, warp = thread & 31, thread >> 5
        first_token, first_row = TOKENS * block_index(), ROWS * block_index_y()
        row, half = thread >> 1, thread & 1
        source_row = min(first_row + row, n_rows - 1)
        weights = shared + 2 * STAGE_BYTES
        n_steps = padded // COLUMNS
        start_next()
        loaded = load(codes, scales, extras, source_row, min(half, n_blocks - 1), n_blocks, run)
        wait_for_previous()
        send_activations(x, padded, first_token, 0, shared)
        if half < n_blocks:
            store_block(weights, row, half, values(loaded), factor(loaded))
        else:
            store_nothing(weights, row, half)
        # A warp has 64 tokens (4 x 16) and 32 rows (4 x 8).
        token_at = 64 * (warp & 1) + (lane & 15)
        row_at = 32 * (warp >> 1) + (lane & 7) + 8 * (lane >> 4)
        left_piece, right_piece = lane >> 4, (lane >> 3) & 1
        zero = zero4(0)
        c00, c01, c02, c03 = zero, zero, zero, zero
        c10, c11, c12, c13 = zero, zero, zero, zero
        c20, c21, c22, c23 = zero, zero, zero, zero
        c30, c31, c32, c33 = zero, zero, zero, zero
        for step in range(n_steps):
            wait_copies()
            block_barrier()
            stage, other = STAGE_BYTES * (step & 1), STAGE_BYTES * ((step + 1) & 1)
            block = 2 * (step + 1) + half
            if step + 1 < n_steps:
                send_activations(x, padded, first_token, step + 1, shared + other)
                loaded = load(codes, scales, extras, source_row, min(block, n_blocks - 1), n_blocks, run)
            for k in range(4):
                left, right = shared + stage, weights + stage
                b0 = load_matrices(place(right, row_at, 2 * k + right_piece))
                b1 = load_matrices(place(right, row_at + 16, 2 * k + right_piece))
                a = load_matrices(place(left, token_at, 2 * k + left_piece))
                c00, c01 = multiply_low(a, b0, c00), multiply_high(a, b0, c01)
                c02, c03 = multiply_low(a, b1, c02), multiply_high(a, b1, c03)
                a = load_matrices(place(left, token_at + 16, 2 * k + left_piece))
                c10, c11 = multiply_low(a, b0, c10), multiply_high(a, b0, c11)
                c12, c13 = multiply_low(a, b1, c12), multiply_high(a, b1, c13)
                a = load_matrices(place(left, token_at + 32, 2 * k + left_piece))
                c20, c21 = multiply_low(a, b0, c20), multiply_high(a, b0, c21)
                c22, c23 = multiply_low(a, b1, c22), multiply_high(a, b1, c23)
                a = load_matrices(place(left, token_at + 48, 2 * k + left_piece))
                c30, c31 = multiply_low(a, b0, c30), multiply_high(a, b0, c31)
                c32, c33 = multiply_low(a, b1, c32), multiply_high(a, b1, c33)
            if step + 1 < n_steps:
                if block < n_blocks:
                    store_block(weights + other, row, half, values(loaded), factor(loaded))
                else:
                    store_nothing(weights + other, row, half)
        token, row = first_token + 64 * (warp & 1), first_row + 32 * (warp >> 1)
        finish_tile(out, pitch, token, row, n_rows, n_tokens, powers, bias, mode, c00, c01, c02, c03)
        finish_tile(out, pitch, token + 16, row, n_rows, n_tokens, powers, bias, mode, c10, c11, c12, c13)
        finish_tile(out, pitch, token + 32, row, n_rows, n_tokens, powers, bias, mode, c20, c21, c22, c23)
        finish_tile(out, pitch, token + 48, row, n_rows, n_tokens, powers, bias, mode, c30, c31, c32, c33)


for _name, _kind in KINDS.items():
    make_gemm(_name, _kind)
