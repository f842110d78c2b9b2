"""Every call to the operating system that the project makes, each with its branch for Linux, macOS and Windows.

Callers never look at `sys.platform`. Importing all of it costs next to nothing; NumPy and ctypes are imported on use.
"""

from .control_groups import cgroup_memory_room_bytes, cpu_quota
from .cpus import calling_thread_on, can_place_threads, default_worker_limit, place_thread, sysctl_integer, usable_cpus
from .files import atomic_file, link_file, locked_file, sync_folder, write_atomically
from .folders import cache_folder, cache_path, chat_history_path, free_disk_bytes, models_folder
from .mapped_memory import (
    HUGE_PAGE_BYTES,
    PAGE_BYTES,
    advise_dontneed,
    advise_sequential,
    allocate,
    populate_read,
)
from .memory_size import available_memory_bytes, limited_room_bytes, peak_rss_bytes, total_memory_bytes
from .proc_files import read_text
from .terminals import is_terminal
from .waiting import wait_settings

__all__ = [
    "HUGE_PAGE_BYTES",
    "PAGE_BYTES",
    "advise_dontneed",
    "advise_sequential",
    "allocate",
    "atomic_file",
    "available_memory_bytes",
    "cache_folder",
    "cache_path",
    "calling_thread_on",
    "can_place_threads",
    "cgroup_memory_room_bytes",
    "chat_history_path",
    "cpu_quota",
    "default_worker_limit",
    "free_disk_bytes",
    "is_terminal",
    "limited_room_bytes",
    "link_file",
    "locked_file",
    "models_folder",
    "peak_rss_bytes",
    "place_thread",
    "populate_read",
    "read_text",
    "sync_folder",
    "sysctl_integer",
    "total_memory_bytes",
    "usable_cpus",
    "wait_settings",
    "write_atomically",
]
