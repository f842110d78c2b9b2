"""Tiles of queries, keys and values in shared memory, as halves, for attention of many tokens."""

from ...compiler.entry import device
from ..simt.thread import (
    block_threads,
    copy_async,
    load_f32,
    shared_store_u16,
    shared_store_words,
    thread_index,
)
from ..simt.vectors import pack_two, words4
from .constants import ZERO

THREADS, TOKENS, POSITIONS, DIMENSIONS = 128, 64, 64, 64
VALUE_ROW_BYTES = 2 * DIMENSIONS + 16  # padded, so that eight rows of a matrix lie in different banks


@device
def load_query_tile(qkv, pitch, head, key_dim, padded, first_token, count, scale, tile):
    """halves [64 tokens][padded], zeros where there is no token or dimension."""
    index = thread_index()
    while index < TOKENS * padded:
        token = index // padded
        dimension = index - token * padded
        value = ZERO
        if token < count and dimension < key_dim:
            value = load_f32(qkv + 4 * (pitch * (first_token + token) + head * key_dim + dimension)) * scale
        shared_store_u16(tile + token * (2 * padded + 16) + 2 * dimension, pack_two(value, ZERO) & 0xFFFF)
        index += block_threads()


@device
def load_key_tile(page, offset, key_dim, padded, tile):
    """halves [4][padded dimensions][16 positions]."""
    for part in range(4):
        source, target = page + 2 * (offset + 16 * part) * key_dim, tile + 32 * part * padded
        at = 16 * thread_index()
        while at < 32 * key_dim:
            copy_async(target + at, source + at)
            at += 16 * block_threads()


@device
def clear_key_padding(key_dim, padded, tile):
    nothing = words4(0, 0, 0, 0)
    for part in range(4):
        at = 32 * key_dim + 16 * thread_index()
        while at < 32 * padded:
            shared_store_words(tile + 32 * part * padded + at, nothing)
            at += 16 * block_threads()


@device
def load_value_tile(page, offset, width, first_dimension, tile):
    """halves [64 positions][64 dimensions]; places behind `width` are not used."""
    index = thread_index()
    while index < POSITIONS * 8:
        position, piece = index >> 3, index & 7
        if first_dimension + 8 * piece < width:
            source = page + 2 * ((offset + position) * width + first_dimension + 8 * piece)
            copy_async(tile + position * VALUE_ROW_BYTES + 16 * piece, source)
        index += block_threads()


@device
def clear_value_tile(tile):
    nothing, index = words4(0, 0, 0, 0), thread_index()
    while index < POSITIONS * VALUE_ROW_BYTES // 16:
        shared_store_words(tile + 16 * index, nothing)
        index += block_threads()
