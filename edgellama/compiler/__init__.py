"""Kernels to object files, and object files to addresses. Numba is imported only in the processes that compile."""

from .loader import Kernels, load_kernels

__all__ = ["Kernels", "load_kernels"]
