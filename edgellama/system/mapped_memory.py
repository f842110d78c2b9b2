"""Memory by pages: advice on mapped ranges, and allocations straight from the system.

Advice that a system does not know is not an error: the function answers False and the program is only slower.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from typing import TYPE_CHECKING

from .libraries import kernel32, libc

if TYPE_CHECKING:
    import numpy as np

PAGE_BYTES = mmap.PAGESIZE
HUGE_PAGE_BYTES = 2 << 20
# Numbers of <sys/mman.h>; Python's mmap module lacks the newest ones.
MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED = 2, 3, 4
MADV_HUGEPAGE, MADV_POPULATE_READ = 14, 22  # Linux; the latter since 5.14


def _madvise(start: int, end: int, advice: int) -> bool:
    return end > start and libc().madvise(start, end - start, advice) == 0


def _pages_inside(address: int, length: int) -> tuple[int, int]:
    return -(-address // PAGE_BYTES) * PAGE_BYTES, (address + length) // PAGE_BYTES * PAGE_BYTES


def _pages_around(address: int, length: int) -> tuple[int, int]:
    return address // PAGE_BYTES * PAGE_BYTES, -(-(address + length) // PAGE_BYTES) * PAGE_BYTES


def advise_dontneed(address: int, length: int) -> bool:
    """Drop the whole pages inside the range; a file's pages are read again when touched, anonymous ones become zero."""
    start, end = _pages_inside(address, length)
    if sys.platform == "win32":
        import ctypes

        # Unlocking pages that are not locked fails, and takes them out of the working set: the documented way.
        kernel32().VirtualUnlock(ctypes.c_void_p(start), ctypes.c_size_t(max(0, end - start)))
        return end > start
    return _madvise(start, end, MADV_DONTNEED)


def advise_sequential(address: int, length: int) -> bool:
    """Say that the range will be read once from front to back: the kernel reads ahead further."""
    if sys.platform == "win32":
        return False
    return _madvise(*_pages_around(address, length), MADV_SEQUENTIAL)


def populate_read(address: int, length: int) -> bool:
    """Bring the range into memory now, in large reads, instead of one page fault at a time."""
    start, end = _pages_around(address, length)
    if sys.platform == "win32":
        return _prefetch_windows(start, end - start)
    if sys.platform == "linux" and _madvise(start, end, MADV_POPULATE_READ):
        return True
    return _madvise(start, end, MADV_WILLNEED)


def _prefetch_windows(address: int, length: int) -> bool:
    import ctypes

    entry = (ctypes.c_size_t * 2)(address, length)  # WIN32_MEMORY_RANGE_ENTRY
    process = ctypes.c_void_p(-1)  # the pseudo-handle of this process
    return bool(kernel32().PrefetchVirtualMemory(process, ctypes.c_size_t(1), entry, 0))


def allocate(n_bytes: int, huge: bool = True) -> np.ndarray:
    """Zeroed, page-aligned bytes straight from the system, in huge pages where there are any; freed with the array."""
    import numpy as np

    huge = huge and sys.platform == "linux" and n_bytes >= HUGE_PAGE_BYTES
    alignment = HUGE_PAGE_BYTES if huge else PAGE_BYTES
    mapping = _anonymous_mapping(max(n_bytes, 1) + alignment - PAGE_BYTES)
    if huge:
        with contextlib.suppress(OSError):  # a kernel built without huge pages refuses the advice
            mapping.madvise(MADV_HUGEPAGE)
    data = np.frombuffer(mapping, np.uint8)  # holds the mapping, which is unmapped with the last view
    skip = -data.ctypes.data % alignment
    return data[skip : skip + n_bytes]


def _anonymous_mapping(n_bytes: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, n_bytes)
    # Private: Python's default is shared memory, which gets no huge pages and survives in a forked child's writes.
    return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
