"""Which logical CPUs this process may use, and on which of them its threads run."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterable, Iterator

from .control_groups import cpu_quota
from .libraries import libc


def usable_cpus() -> list[int]:
    """The logical CPUs that this process may run on: affinity and cpuset are one mask on Linux."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def can_place_threads() -> bool:
    """Whether this system lets a program choose the CPUs of its threads."""
    return hasattr(os, "sched_setaffinity")


def place_thread(native_id: int, cpus: Iterable[int]) -> bool:
    """Let a thread of this process run on these logical CPUs only; 0 is the calling thread."""
    if not can_place_threads():
        return False
    try:
        os.sched_setaffinity(native_id, cpus)
    except (OSError, ValueError, OverflowError):  # a CPU that went away, a sandbox that forbids the call
        return False
    return True


@contextlib.contextmanager
def calling_thread_on(cpus: Iterable[int]) -> Iterator[None]:
    """The calling thread runs on these logical CPUs during the block, and where it ran before afterwards."""
    before = usable_cpus()
    is_placed = place_thread(0, cpus)
    try:
        yield
    finally:
        if is_placed:
            place_thread(0, before)


def sysctl_integer(name: str) -> int | None:
    """A number that macOS keeps under a name such as hw.physicalcpu."""
    import ctypes

    value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
    code = libc().sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return value.value if code == 0 else None


def default_worker_limit() -> int:
    """Usable CPUs within the quota, at least one."""
    quota = cpu_quota() if sys.platform == "linux" else None
    return max(1, min(len(usable_cpus()), math.floor(quota) if quota is not None else sys.maxsize))
