"""Kernels whose calling convention shows in their assembly, for test_windows_objects.py."""

import math

from numba import types

from edgellama.compiler.entry import device, entry, intp
from edgellama.simd.memory import load_f32, store_f32

FIVE = types.void(intp, intp, intp, intp, intp)


@device
def _mixed(a, b):
    """Enough live floats to need more than the six vector registers that a Win64 callee may overwrite."""
    total = 0.0
    v0, v1, v2, v3, v4 = load_f32(a), load_f32(a + 4), load_f32(a + 8), load_f32(a + 12), load_f32(a + 16)
    for i in range(b):
        total += math.sin(v0 * i) * v1 + math.cos(v2 * i) * v3 + v4
    return total + v0 + v1 + v2 + v3 + v4


@entry(FIVE)
def five(first, second, third, fourth, fifth):
    store_f32(first, load_f32(second) + load_f32(third) + load_f32(fourth) + load_f32(fifth))


@entry()
def with_calls(source, target, count):
    store_f32(target, _mixed(source, count))
