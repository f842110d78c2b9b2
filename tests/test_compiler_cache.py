"""Compiled kernels on disk: what a damaged, read-only, full or foreign cache does.

The kernels are those of one tiny module, written to a folder of the test and registered as a group of its own.
"""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgellama.compiler import cache
from edgellama.compiler.groups import Group

KERNELS = """
from edgellama.compiler.entry import entry
from edgellama.simd.memory import load_i64, store_i64

@entry()
def add_{name}(source, target, value):
    store_i64(target, load_i64(source) + value)
"""

PROGRAM = """
import ctypes, json, sys
from edgellama.compiler.groups import Group, register
from edgellama.compiler import load_kernels

for name in ("first", "second"):
    register(Group("tiny", (f"tiny_{name}",), f"tiny_{name}"))
calls = []
kernels = load_kernels(lambda *counts: calls.append(counts), "generic", "tiny")
values = (ctypes.c_int64 * 2)(40, 0)
kernels.function("add_second", 3)(ctypes.addressof(values), ctypes.addressof(values) + 8, 2)
print(json.dumps({"result": values[1], "calls": calls, "numba": "numba" in sys.modules}))
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """A folder with two kernel modules, and an empty cache beside it that this process and children use."""
    folder = tmp_path / "modules"
    folder.mkdir()
    for name in ("first", "second"):
        (folder / f"tiny_{name}.py").write_text(KERNELS.format(name=name))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ["PYTHONPATH"]]))
    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path / "cache"))
    return folder


def start(**options) -> dict:
    """Run PROGRAM in a process of its own; what it printed."""
    command = [sys.executable, "-P", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing is said where there is no terminal
    return json.loads(done.stdout)


COMPILED = {"result": 42, "calls": [[0, 2], [1, 2], [2, 2]], "numba": False}
CACHED = {"result": 42, "calls": [], "numba": False}


def cache_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "kernels").glob("*.kernels"))


def test_the_second_start_compiles_nothing_and_numba_is_never_imported(tiny, tmp_path):
    assert start() == COMPILED
    assert len(cache_files(tmp_path)) == 2
    assert start(cwd="/") == CACHED
    assert stat.S_IMODE((tmp_path / "cache" / "kernels").stat().st_mode) == 0o700


def test_a_start_from_any_folder_compiles(tiny, tmp_path):
    """Even where a module of the same name as Numba lies in the current folder."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "numba.py").write_text("raise ImportError('not this one')")
    assert start(cwd=place) == COMPILED


def test_an_edit_of_one_module_recompiles_its_group_only(tiny):
    assert start() == COMPILED
    with (tiny / "tiny_second.py").open("a") as file:
        file.write("# edited\n")
    assert start()["calls"] == [[0, 1], [1, 1]]
    assert start() == CACHED


def test_damaged_files_are_compiled_again(tiny, tmp_path):
    assert start() == COMPILED
    first, second = cache_files(tmp_path)
    whole = first.read_bytes()
    first.write_bytes(whole[:-1])
    damaged = bytearray(second.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    second.write_bytes(damaged)
    assert start() == COMPILED
    assert first.read_bytes() == whole
    assert start() == CACHED


def test_an_object_under_another_key_is_not_used(tiny, tmp_path):
    """A file that somebody renamed: valid in itself, but not what the name says."""
    assert start() == COMPILED
    first, second = cache_files(tmp_path)
    second.write_bytes(first.read_bytes())
    assert start()["calls"] == [[0, 1], [1, 1]]


def test_processes_that_start_together_all_end_with_valid_kernels(tiny, tmp_path):
    command = [sys.executable, "-P", "-c", PROGRAM]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert all(b'"result": 42' in output for output in outputs)
    assert len(cache_files(tmp_path)) == 2
    assert len(os.listdir(tmp_path / "cache" / "kernels")) == 2  # no temporary files stay
    assert start() == CACHED


def test_a_cache_that_cannot_be_written_does_not_matter(tiny, tmp_path):
    """No byte fits into any file, as on a full disk."""
    resource = pytest.importorskip("resource")

    def forbid_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    assert start(preexec_fn=forbid_files) == COMPILED
    assert os.listdir(tmp_path / "cache" / "kernels") == []


def test_a_file_in_place_of_the_cache_does_not_matter(tiny, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    assert start() == COMPILED


@pytest.mark.skipif(os.name == "nt", reason="folders of Windows have no mode")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_folder_that_others_may_write_is_not_used(tiny, tmp_path, mode):
    folder = tmp_path / "cache" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    assert cache.kernels_folder() is None


def test_a_link_in_place_of_the_folder_is_not_used(tiny, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "cache" / "kernels").symlink_to(tmp_path / "real")
    assert cache.kernels_folder() is None


def test_a_folder_of_another_user_is_not_used(tiny, tmp_path, monkeypatch):
    assert cache.kernels_folder() == tmp_path / "cache" / "kernels"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.kernels_folder() is None


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_cache_does_not_matter(tiny, tmp_path):
    folder = tmp_path / "cache" / "kernels"
    folder.mkdir(parents=True, mode=0o700)
    folder.chmod(0o500)
    assert start() == COMPILED


GROUP = Group("tiny", ("edgellama.cpu.kernels.walk",), "unit")
ITEM = cache.KernelObject("the key", ["one", "two"], np.random.default_rng(1).bytes(20_000))


def test_an_unwritable_folder_is_no_error(tiny, monkeypatch):
    def fail(path, data):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(cache.system, "write_atomically", fail)
    assert cache.store(GROUP, "avx2", cache.seal(ITEM), ITEM.key) is False


def test_what_is_stored_is_loaded(tiny):
    assert cache.load(GROUP, "avx2", ITEM.key) is None
    assert cache.store(GROUP, "avx2", cache.seal(ITEM), ITEM.key)
    assert cache.load(GROUP, "avx2", ITEM.key) == ITEM
    assert cache.load(GROUP, "avx2", "another") is None


@pytest.mark.parametrize("problem", ["link", "writable", "folder"])
def test_a_file_that_others_may_have_written_is_not_loaded(tiny, tmp_path, problem):
    cache.store(GROUP, "avx2", cache.seal(ITEM), ITEM.key)
    (path,) = cache_files(tmp_path)
    if problem == "writable":
        path.chmod(0o666)
    else:
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "moved") if problem == "link" else path.mkdir()
    assert cache.load(GROUP, "avx2", ITEM.key) is None


def test_every_truncation_is_refused():
    sealed = cache.seal(ITEM)
    assert cache.unseal(sealed, ITEM.key) == ITEM
    assert not any(cache.unseal(sealed[:size], ITEM.key) for size in range(0, len(sealed), 64))
    assert cache.unseal(sealed[:-1], ITEM.key) is None
    assert cache.unseal(sealed + b"\0", ITEM.key) is None


def test_every_flipped_bit_is_refused():
    sealed = cache.seal(ITEM)
    header_bits = range(8 * 150)  # magic, hash, lengths, JSON
    random_bits = np.random.default_rng(2).integers(0, 8 * len(sealed), 200)
    for bit in (*header_bits, *random_bits):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        assert cache.unseal(bytes(damaged), ITEM.key) is None, bit


def test_old_files_and_the_oldest_of_too_many_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "KEPT_FILES", 5)
    for days in range(0, 70, 7):
        file = tmp_path / f"{days}.kernels"
        file.write_bytes(b"x")
        os.utime(file, (time.time() - 86400 * days,) * 2)
    (tmp_path / "folder").mkdir()  # whatever it is, it is not ours to delete, nor a reason to fail
    cache.prune(tmp_path)
    assert {file.name for file in tmp_path.glob("*.kernels")} <= {f"{days}.kernels" for days in (0, 7, 14, 21, 28)}
    assert (tmp_path / "0.kernels").exists() and (tmp_path / "folder").exists()


def test_use_keeps_a_file_young(tiny, tmp_path):
    cache.store(GROUP, "avx2", cache.seal(ITEM), ITEM.key)
    (path,) = cache_files(tmp_path)
    os.utime(path, (time.time() - 29 * 86400,) * 2)
    assert cache.load(GROUP, "avx2", ITEM.key) == ITEM
    assert time.time() - path.stat().st_mtime < 60
