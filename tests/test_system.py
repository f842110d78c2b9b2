"""edgellama.system: real calls on this host, and the branches of other systems by pretending to be one."""

import ctypes
import gc
import io
import mmap
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from edgellama import system
from edgellama.system import cpus, mapped_memory

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="this is about Linux")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mode bits")


def resident_pages(array: np.ndarray) -> int:
    """How many pages of an array are in memory, as mincore sees it."""
    n_pages = -(-array.size // system.PAGE_BYTES)
    flags = (ctypes.c_ubyte * n_pages)()
    address = ctypes.c_void_p(array.ctypes.data)
    assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(array.size), flags) == 0
    return sum(flag & 1 for flag in flags)


@pytest.mark.parametrize("n_bytes", [1, 63, 4096, 5000, (2 << 20) - 1, 2 << 20, (6 << 20) + 100])
@pytest.mark.parametrize("huge", [False, True])
def test_allocate_is_zeroed_aligned_and_writable(n_bytes, huge):
    array = system.allocate(n_bytes, huge)
    assert array.dtype == np.uint8 and array.shape == (n_bytes,) and array.flags.writeable
    assert array.ctypes.data % system.PAGE_BYTES == 0
    assert not array.any()
    array[:] = 255
    assert array[-1] == 255


def test_allocate_nothing():
    assert system.allocate(0).size == 0


@linux_only
def test_allocate_huge_starts_on_a_huge_page():
    assert system.allocate(3 << 20).ctypes.data % system.HUGE_PAGE_BYTES == 0


@linux_only
def test_allocation_is_freed_with_its_last_view():
    def mapped_kib() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * system.PAGE_BYTES // 1024

    view = system.allocate(256 << 20)[1000:2000]
    before = mapped_kib()
    del view
    gc.collect()
    assert before - mapped_kib() > 200 << 10


@linux_only
def test_dontneed_drops_only_whole_pages_inside():
    array = system.allocate(4 * system.PAGE_BYTES, huge=False)
    array[:] = 7
    start = array.ctypes.data + 100
    assert system.advise_dontneed(start, 3 * system.PAGE_BYTES)
    kept = np.flatnonzero(array == 7)
    assert kept.size == 2 * system.PAGE_BYTES  # pages 1 and 2 are dropped, the partly covered 0 and 3 are kept
    assert array[0] == 7 and array[-1] == 7


@linux_only
def test_dontneed_of_less_than_a_page_does_nothing():
    array = system.allocate(system.PAGE_BYTES, huge=False)
    array[:] = 7
    assert not system.advise_dontneed(array.ctypes.data + 1, 100)
    assert (array == 7).all()


@linux_only
def test_file_pages_come_back_after_dontneed(tmp_path):
    content = os.urandom(8 * system.PAGE_BYTES)
    path = tmp_path / "file"
    path.write_bytes(content)
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(mapping, np.uint8)
    assert system.advise_sequential(array.ctypes.data, array.size)
    assert system.populate_read(array.ctypes.data + 5, array.size - 5)
    assert resident_pages(array) == 8
    assert system.advise_dontneed(array.ctypes.data, array.size)
    assert array.tobytes() == content


@linux_only
def test_populate_read_falls_back_on_old_kernels(monkeypatch):
    asked = []

    def madvise(start: int, end: int, advice: int) -> bool:
        asked.append(advice)
        return advice != mapped_memory.MADV_POPULATE_READ

    monkeypatch.setattr(mapped_memory, "_madvise", madvise)
    assert system.populate_read(4096, 100)
    assert asked == [mapped_memory.MADV_POPULATE_READ, mapped_memory.MADV_WILLNEED]


def test_macos_never_asks_for_linux_advice(monkeypatch):
    asked = []
    monkeypatch.setattr(mapped_memory, "_madvise", lambda start, end, advice: asked.append(advice) or True)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert system.populate_read(4096, 100)
    assert asked == [mapped_memory.MADV_WILLNEED]


class FakeKernel32:
    """Records calls; every one succeeds."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append(name) or 1


def test_windows_memory_advice(monkeypatch):
    kernel = FakeKernel32()
    monkeypatch.setattr(mapped_memory, "kernel32", lambda: kernel)
    monkeypatch.setattr(sys, "platform", "win32")
    assert system.advise_dontneed(0, 1 << 20)
    assert system.populate_read(0, 1 << 20)
    assert not system.advise_sequential(0, 1 << 20)
    assert kernel.calls == ["VirtualUnlock", "PrefetchVirtualMemory"]


def test_peak_rss_sees_a_large_array():
    before = system.peak_rss_bytes()
    array = system.allocate(before + (64 << 20))
    array[:: system.PAGE_BYTES] = 1
    assert system.peak_rss_bytes() >= array.size


@linux_only
def test_peak_rss_is_not_inherited(run_python):
    array = system.allocate(512 << 20)
    array[:: system.PAGE_BYTES] = 1
    result = run_python("-c", "from edgellama import system; print(system.peak_rss_bytes())")
    assert 1 << 20 < int(result.stdout) < 256 << 20


def test_available_memory_is_plausible():
    assert 1 << 20 < system.available_memory_bytes() < 1 << 50


def control_groups(root: Path, membership: str, files: dict[str, str]) -> Path:
    """A root folder with /proc/self/cgroup and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000", "cpu.max": "max 1"}, 0.5),
        ("0::/gone\n", {"cpu.max": "300000 100000"}, 3.0),  # inside a container the host's path does not exist
        (
            "4:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "garbage"}, None),
        ("0::/../..\n", {"cpu.max": "100000 100000"}, 1.0),
        ("nonsense\n", {}, None),
        ("", {}, None),
    ],
)
def test_cpu_quota(tmp_path, membership, files, expected):
    assert system.cpu_quota(control_groups(tmp_path, membership, files)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "1000", "memory.current": "400", "memory.stat": "anon 1\ninactive_file 100\n"}, 700),
        ({"memory.max": "max", "memory.current": "400"}, None),
        ({"memory.max": "100", "memory.current": "400"}, 0),
        ({}, None),
    ],
)
def test_memory_room(tmp_path, files, expected):
    assert system.cgroup_memory_room_bytes(control_groups(tmp_path, "0::/\n", files)) == expected


@linux_only
@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (2.9, 2), (64.0, 8)])
def test_worker_limit(monkeypatch, quota, expected):
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    monkeypatch.setattr(cpus, "usable_cpus", lambda: list(range(8)))
    assert system.default_worker_limit() == expected


@posix_only
def test_cache_folder_is_made_private(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path / "a" / "b"))
    folder = system.cache_folder()
    assert folder == tmp_path / "a" / "b"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@posix_only
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_cache_folder_that_others_may_write_is_refused(tmp_path, monkeypatch, mode):
    tmp_path.chmod(mode)
    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path))
    assert system.cache_folder() is None


@posix_only
def test_cache_folder_that_is_a_link_or_a_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path / name))
        assert system.cache_folder() is None


@posix_only
def test_cache_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert system.cache_folder() is None


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/edgellama"),
        ("linux", {"XDG_CACHE_HOME": "{root}/xdg"}, "xdg/edgellama"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/edgellama"),
        ("darwin", {}, "home/Library/Caches/edgellama"),
        ("win32", {"LOCALAPPDATA": "{root}/local"}, "local/edgellama"),
        ("win32", {}, "home/AppData/Local/edgellama"),
        ("linux", {"EDGELLAMA_CACHE": "{root}/own"}, "own"),
    ],
)
def test_cache_folder_place(tmp_path, monkeypatch, platform, variables, expected):
    for name in ("EDGELLAMA_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(root=tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert system.cache_folder() == tmp_path / expected


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "out"
    system.write_atomically(path, b"one")
    system.write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["out"]


def test_write_atomically_keeps_the_old_file_on_failure(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        system.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits there")
@pytest.mark.parametrize(("private", "mode"), [(False, 0o640), (True, 0o600)])
def test_the_umask_says_who_may_read_a_file(tmp_path, private, mode):
    before = os.umask(0o027)
    try:
        with system.atomic_file(tmp_path / "out", private) as file:
            file.write(b"text")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == mode


def test_is_terminal():
    closed = io.StringIO()
    closed.close()
    for stream in (None, io.StringIO(), closed, object()):
        assert not system.is_terminal(stream)


@linux_only
def test_is_terminal_knows_one():
    parent, child = os.openpty()
    with os.fdopen(child, "w") as stream:
        assert system.is_terminal(stream)
    os.close(parent)


def test_import_brings_little_of_the_standard_library(run_python):
    """Nothing that takes time to import: each of these is in memory, or is needed, in every process."""
    code = (
        "import __future__, sys, contextlib, functools, math, mmap, pathlib, shutil, stat, typing\n"
        "before = set(sys.modules)\nimport edgellama.system\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('edgellama')))"
    )
    assert run_python("-c", code).stdout.strip() == "[]"


@linux_only
def test_usable_cpus_follow_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert system.usable_cpus() == [min(before)]
    finally:
        os.sched_setaffinity(0, before)
    assert system.usable_cpus() == sorted(before)


def test_usable_cpus_without_affinity_calls(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert system.usable_cpus() == [0, 1, 2]
