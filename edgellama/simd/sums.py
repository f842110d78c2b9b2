"""How integer products are summed: what a run of dots adds to, and its IR, for every kind of target.

A run is what lies between a start and the end of a block of columns. Most targets add to the 16 sums themselves; others
keep narrower or more sums while the run goes on and join them at its end.
"""

from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir
from numba import types

from .vector import I32, i32x16

I16 = ir.IntType(16)


class Sums(NamedTuple):
    """`start(builder, first)` -> sums, `add(builder, sums, w, x)` -> sums, `finish(builder, sums)` -> i32x16.

    `first` are the 16 sums to begin with, w is 64 bytes, x one quad in every lane.
    """

    kind: types.Type
    start: Callable
    add: Callable
    finish: Callable
    zero_point: int = 0  # what `add` takes off every byte of w


def plain(add: Callable, zero_point: int = 0) -> Sums:
    """The sums of the 16 rows as they are."""
    return Sums(i32x16, lambda builder, first: first, add, lambda builder, sums: sums, zero_point)


def split(builder, value, parts: int) -> list:
    """The `parts` equal runs of lanes of `value`, each a vector of its own."""
    width = value.type.count // parts
    runs = [ir.Constant(ir.VectorType(I32, width), list(range(i * width, (i + 1) * width))) for i in range(parts)]
    return [builder.shuffle_vector(value, value, run) for run in runs]


def join(builder, vectors: list):
    """One vector of the lanes of several, whose number is a power of two."""
    while len(vectors) > 1:
        lanes = ir.Constant(ir.VectorType(I32, 2 * vectors[0].type.count), list(range(2 * vectors[0].type.count)))
        vectors = [
            builder.shuffle_vector(low, high, lanes) for low, high in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]
