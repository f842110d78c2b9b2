"""How a thread that waits for others sleeps."""

from __future__ import annotations

import sys
from typing import Any

from .libraries import kernel32, libc

_FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98}  # Linux system call numbers


def wait_settings() -> dict[str, int]:
    """How a worker thread sleeps: `futex_number` (0: none) and `wait_function`, the address of what it calls.

    On Linux that is libc's syscall(), used as futex(2); elsewhere a plain short sleep.
    """
    import platform

    if sys.platform == "win32":
        return {"futex_number": 0, "wait_function": _function_address(kernel32().Sleep)}
    number = _FUTEX_NUMBERS.get(platform.machine(), 0) if sys.platform == "linux" else 0
    return {"futex_number": number, "wait_function": _function_address(libc().syscall if number else libc().usleep)}


def _function_address(function: Any) -> int:
    import ctypes

    return ctypes.cast(function, ctypes.c_void_p).value or 0
