"""The C library and Windows' kernel32, loaded when first asked for: importing ctypes takes time."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def libc() -> Any:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


@functools.cache
def kernel32() -> Any:
    import ctypes

    return ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
