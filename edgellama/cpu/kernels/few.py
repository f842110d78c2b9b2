"""A few rows of activations (a step of several sequences) by a packed matrix: weights still stream once."""

from ...compiler.entry import entry
from ...simd.tile import FEW_TOKENS
from .k_blocks import Q4_K_HALF, Q5_K_HALF, Q6_K_HALF, make_k_pairs
from .simple_blocks import make_simple_pairs
from .streams import make_stream

STREAM = make_stream(FEW_TOKENS)
SIMPLE, SUPER = make_simple_pairs(STREAM), make_k_pairs(STREAM)
stream = STREAM.stream
pair_q4_0, pair_q4_1, pair_q8_0 = SIMPLE.q4_0, SIMPLE.q4_1, SIMPLE.q8_0
pair_q4_k, pair_q5_k, pair_q6_k = SUPER.q4_k, SUPER.q5_k, SUPER.q6_k


@entry()
def few_q4_0(op, frame, worker):
    stream(op, frame, worker, pair_q4_0, 576, 32)


@entry()
def few_q4_1(op, frame, worker):
    stream(op, frame, worker, pair_q4_1, 640, 32)


@entry()
def few_q8_0(op, frame, worker):
    stream(op, frame, worker, pair_q8_0, 1088, 32)


@entry()
def few_q4_k(op, frame, worker):
    stream(op, frame, worker, pair_q4_k, 2 * Q4_K_HALF, 256)


@entry()
def few_q5_k(op, frame, worker):
    stream(op, frame, worker, pair_q5_k, 2 * Q5_K_HALF, 256)


@entry()
def few_q6_k(op, frame, worker):
    stream(op, frame, worker, pair_q6_k, 2 * Q6_K_HALF + 64, 256)
