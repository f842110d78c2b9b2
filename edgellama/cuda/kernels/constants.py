"""Float constants of kernels: a bare number in Python would make float64 of an expression."""

from numba import float32

ZERO, ONE, LARGEST_CODE = float32(0.0), float32(1.0), float32(127.0)
LOG2_E = float32(1.4426950408889634)
