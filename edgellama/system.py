"""Every call to the operating system that the project makes, each with its branch for Linux, macOS and Windows.

Callers never look at `sys.platform`. Advice that a system does not know is not an error: the function answers False
and the program is only slower. Importing this module costs next to nothing; NumPy and ctypes are imported on use.
"""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

PAGE_BYTES = mmap.PAGESIZE
HUGE_PAGE_BYTES = 2 << 20
# Numbers of <sys/mman.h>; Python's mmap module lacks the newest ones.
MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED = 2, 3, 4
MADV_HUGEPAGE, MADV_POPULATE_READ = 14, 22  # Linux; the latter since 5.14


@functools.cache
def _libc() -> Any:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


@functools.cache
def _kernel32() -> Any:
    import ctypes

    return ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]


def _madvise(start: int, end: int, advice: int) -> bool:
    return end > start and _libc().madvise(start, end - start, advice) == 0


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
        _kernel32().VirtualUnlock(ctypes.c_void_p(start), ctypes.c_size_t(max(0, end - start)))
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
    return bool(_kernel32().PrefetchVirtualMemory(process, ctypes.c_size_t(1), entry, 0))


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
    _kernel32().K32GetProcessMemoryInfo(ctypes.c_void_p(-1), counters, size)
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


def _available_memory_windows() -> int:
    return _memory_status_windows()[2]


def _memory_status_windows() -> list[int]:
    import ctypes

    status = (ctypes.c_uint64 * 8)()  # MEMORYSTATUSEX: length and load, total physical, available physical, …
    ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
    _kernel32().GlobalMemoryStatusEx(status)
    return list(status)


def _kib_field(path: Path, name: str) -> int | None:
    """Bytes of a `Name:   123 kB` line of /proc."""
    for line in read_text(path).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return None


def read_text(path: Path) -> str:
    """A small file of /proc or /sys; empty when it is missing or unreadable, as many are in containers."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


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
    code = _libc().sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return value.value if code == 0 else None


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """This process's control group and all above it: the tightest limit on the way holds (version 2, else 1)."""
    for line in read_text(root / "proc/self/cgroup").splitlines():
        fields = line.split(":", 2)
        if len(fields) != 3 or (fields[1] and controller not in fields[1].split(",")):
            continue
        _, names, path = fields
        base = root / "sys/fs/cgroup"
        folder = base / names / path.strip("/") if names else base / path.strip("/")
        top = base / names if names else base
        while True:
            yield folder
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent


def _number(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdigit() else None


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many CPUs' worth of time the control group grants; None without a limit."""
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        quota, period = [*read_text(folder / "cpu.max").split(), "", ""][:2]
        if not quota:
            quota, period = read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")
        granted, per = _number(quota), _number(period)
        if granted and per and granted > 0:
            quotas.append(granted / per)
    return min(quotas, default=None)


def cgroup_memory_room_bytes(root: Path = Path("/")) -> int | None:
    """Bytes left below the tightest memory limit; cached file pages count as free: the kernel drops them first."""
    rooms = []
    for folder in _cgroup_folders(root, "memory"):
        limit = _number(read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes"))
        used = _number(read_text(folder / "memory.current") or read_text(folder / "memory.usage_in_bytes"))
        if limit is not None and used is not None:
            fields = dict(line.split() for line in read_text(folder / "memory.stat").splitlines())
            rooms.append(max(0, limit - used + int(fields.get("inactive_file", 0))))
    return min(rooms, default=None)


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


def default_worker_limit() -> int:
    """Usable CPUs within the quota, at least one."""
    quota = cpu_quota() if sys.platform == "linux" else None
    return max(1, min(len(usable_cpus()), math.floor(quota) if quota is not None else sys.maxsize))


def cache_folder() -> Path | None:
    """This user's cache folder, made if missing; None where no folder is safely this user's own.

    What lies there is loaded as code, so a folder that another user owns or may write, or a link, is never used.
    `EDGELLAMA_CACHE` names another place.
    """
    try:
        folder = cache_path()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _is_private(folder) else None
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None


def cache_path() -> Path:
    """Where this user's cache folder belongs, whether or not it is there. RuntimeError: there is no home folder."""
    override = os.environ.get("EDGELLAMA_CACHE")
    if override:
        return Path(override).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "edgellama"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/edgellama"
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if os.path.isabs(named) else Path.home() / ".cache"  # the specification: ignore relative ones
    return base / "edgellama"


def models_folder() -> Path:
    """Where this user's models lie; it need not exist. `EDGELLAMA_MODELS` names another place.

    See the XDG Base Directory Specification. Raises OSError where there is no home folder.
    """
    override = os.environ.get("EDGELLAMA_MODELS")
    if override:
        return Path(override).expanduser().absolute()
    try:
        return _data_path() / "edgellama" / "models"
    except RuntimeError as error:
        raise OSError("there is no home folder for models; EDGELLAMA_MODELS names a folder for them") from error


def _data_path() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support"
    named = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".local/share"


def free_disk_bytes(folder: Path) -> int:
    """Room for this user on the disk that holds the folder, or will hold it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def link_file(target: Path, link: Path) -> None:
    """Give a file a second name, replacing what has that name: a relative link, on Windows a hard link.

    A symbolic link shows a person where the bytes are; on Windows making one takes a privilege.
    """
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    if sys.platform == "win32":
        os.link(target, temporary)
    else:
        os.symlink(os.path.relpath(target, link.parent), temporary)
    os.replace(temporary, link)
    sync_folder(link.parent)


@contextlib.contextmanager
def locked_file(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file while the block runs; the system opens the lock when a process dies, however it dies.

    With `wait` false, the block gets False where somebody else holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            holds = _lock(descriptor, wait)
            # Whoever held it may have removed the file meanwhile: a lock on a file without a name keeps nobody out.
            if holds and not _is_at(descriptor, path):
                continue
            yield holds
            if holds:
                with contextlib.suppress(OSError):  # Windows removes no open file, and it may stay
                    os.unlink(path)
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _is_private(folder: Path) -> bool:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    if sys.platform == "win32":  # access lists there; the profile folder's own is inherited
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that is complete or not there, even after a power cut. Only its owner may read it."""
    with atomic_file(path, private=True) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write that appears under its name when it is complete: temporary name, sync, rename, sync.

    The process's umask says who may read it, unless it is private.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder durable. Windows has no such call, and some network file systems refuse it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether a person reads this stream. None and closed streams, as in windowless programs, count as no."""
    try:
        return stream is not None and stream.isatty()
    except (ValueError, AttributeError):
        return False


_FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98}  # Linux system call numbers


def wait_settings() -> dict[str, int]:
    """How a worker thread sleeps: `futex_number` (0: none) and `wait_function`, the address of what it calls.

    On Linux that is libc's syscall(), used as futex(2); elsewhere a plain short sleep.
    """
    import platform

    if sys.platform == "win32":
        return {"futex_number": 0, "wait_function": _function_address(_kernel32().Sleep)}
    number = _FUTEX_NUMBERS.get(platform.machine(), 0) if sys.platform == "linux" else 0
    return {"futex_number": number, "wait_function": _function_address(_libc().syscall if number else _libc().usleep)}


def _function_address(function: Any) -> int:
    import ctypes

    return ctypes.cast(function, ctypes.c_void_p).value or 0
