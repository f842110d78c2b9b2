"""How much memory the machine has, how much of it is free, and how much this process has used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .control_groups import cgroup_memory_room_bytes
from .libraries import kernel32
from .proc_files import read_text


def peak_rss_bytes() -> int:
    """The most memory this process has held at once (on Linux not getrusage's, which a child inherits)."""
    if sys.platform == "win32":
        return _memory_counters_windows()
    peak = _kib_field(Path("/proc/self/status"), "VmHWM")
    if peak is not None:
        return peak
    import resource

    peak_units = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_units if sys.platform == "darwin" else peak_units * 1024


def _memory_counters_windows() -> int:
    import ctypes

    counters = (ctypes.c_size_t * 10)()  # PROCESS_MEMORY_COUNTERS: cb and faults share the first, then the peak
    size = ctypes.sizeof(counters) - ctypes.sizeof(ctypes.c_size_t)
    ctypes.cast(counters, ctypes.POINTER(ctypes.c_uint32))[0] = size
    kernel32().K32GetProcessMemoryInfo(ctypes.c_void_p(-1), counters, size)
    return int(counters[1])


def available_memory_bytes() -> int:
    """What can be allocated without swapping, within this container's limit; total memory where only that is known."""
    if sys.platform == "win32":
        return _available_memory_windows()
    free = _kib_field(Path("/proc/meminfo"), "MemAvailable")
    if free is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = cgroup_memory_room_bytes()
    return free if room is None else min(free, room)


def total_memory_bytes(root: Path = Path("/")) -> int | None:
    """The machine's memory; with a root folder what its /proc says, None where it says nothing."""
    total = _kib_field(root / "proc/meminfo", "MemTotal")
    if total is not None or root != Path("/"):
        return total
    if sys.platform == "win32":
        return _memory_status_windows()[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def limited_room_bytes() -> dict[str, int]:
    """What the limits of this process leave it, by their names; only those that are set, on Linux.

    RLIMIT_AS counts all mappings, files too, RLIMIT_DATA the private ones that can be written.
    """
    if sys.platform != "linux":
        return {}
    import resource

    used = {"RLIMIT_AS": "VmSize", "RLIMIT_DATA": "VmData"}
    found = {}
    for name, field in used.items():
        limit, _ = resource.getrlimit(getattr(resource, name))
        present = _kib_field(Path("/proc/self/status"), field)
        if limit != resource.RLIM_INFINITY and present is not None:
            found[name] = max(0, limit - present)
    return found


def _available_memory_windows() -> int:
    return _memory_status_windows()[2]


def _memory_status_windows() -> list[int]:
    import ctypes

    status = (ctypes.c_uint64 * 8)()  # MEMORYSTATUSEX: length and load, total physical, available physical, …
    ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
    kernel32().GlobalMemoryStatusEx(status)
    return list(status)


def _kib_field(path: Path, name: str) -> int | None:
    """Bytes of a `Name:   123 kB` line of /proc."""
    for line in read_text(path).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return None
