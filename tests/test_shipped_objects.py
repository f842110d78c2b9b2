"""Kernel objects that come with the package: when they are used, and when not.

The kernels are those of one tiny module, compiled for the release folder of a test and loaded by other processes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgellama.compiler import cache, shipped
from edgellama.compiler.children import Job, run_jobs
from edgellama.compiler.groups import Group, groups_of
from edgellama.compiler.release import release_jobs
from edgellama.simd.target import TARGETS

GROUP = Group("tiny", ("tiny_shipped",), "tiny_shipped")
ABI = "elf-x86_64"
KERNELS = """
from edgellama.compiler.entry import entry
from edgellama.simd.memory import load_i64, store_i64

@entry()
def add(source, target, value):
    store_i64(target, load_i64(source) + value)
"""
PROGRAM = """
import ctypes, json, pathlib, sys
from edgellama.compiler import load_kernels, shipped
from edgellama.compiler.groups import Group, register

shipped.FOLDER = pathlib.Path(sys.argv[1])
exec(sys.argv[2])
register(Group("tiny", ("tiny_shipped",), "tiny_shipped"))
compiled = []
kernels = load_kernels(lambda done, total: compiled.append(done), "generic", "tiny")
values = (ctypes.c_int64 * 2)(40, 0)
kernels.function("add", 3)(ctypes.addressof(values), ctypes.addressof(values) + 8, 2)
print(json.dumps([values[1], bool(compiled), "numba" in sys.modules]))
"""
SHIPPED, COMPILED = [42, False, False], [42, True, False]

pytestmark = pytest.mark.skipif(shipped.host_abi() != ABI, reason="the objects of these tests are for x86-64 Linux")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the module, and a release folder with its object for this host."""
    place = tmp_path_factory.mktemp("shipped")
    (place / "tiny_shipped.py").write_text(KERNELS)
    sys.path.append(str(place))
    try:
        job = Job(GROUP, "generic", shipped.key_of(GROUP, "generic", ABI), shipped.ABIS[ABI])
        ((_, _, sealed),) = run_jobs([job])
    finally:
        sys.path.remove(str(place))
    path = shipped.path_of(place / "objects", GROUP, "generic", ABI)
    path.parent.mkdir(parents=True)
    path.write_bytes(sealed)
    return place


@pytest.fixture
def release(made, tmp_path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def start(release: Path, setup: str = "") -> list:
    """Run PROGRAM in a process of its own with an empty cache; `setup` is run before the kernels are loaded."""
    path = os.pathsep.join([str(release), os.environ["PYTHONPATH"]])
    environment = os.environ | {"EDGELLAMA_CACHE": str(release / "cache"), "PYTHONPATH": path}
    command = [sys.executable, "-P", "-c", PROGRAM, str(release / "objects"), setup]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def object_path(release: Path) -> Path:
    return shipped.path_of(release / "objects", GROUP, "generic", ABI)


def test_an_object_that_fits_is_used_and_nothing_is_cached(release):
    assert start(release) == SHIPPED
    assert not list((release / "cache").rglob("*.kernels"))


def test_it_needs_neither_numba_nor_a_known_version_of_llvmlite(release):
    hidden = "import llvmlite; llvmlite.__version__ = '9.9.9'; sys.modules['numba'] = None"
    assert start(release, hidden)[:2] == [42, False]


@pytest.mark.parametrize("damage", ["missing", "short", "long", "flipped", "empty", "folder"])
def test_one_that_cannot_be_trusted_is_compiled_instead(release, damage):
    path = object_path(release)
    whole = path.read_bytes()
    changed = {"short": whole[:-1], "long": whole + b"\0", "empty": b""}
    changed["flipped"] = bytes([*whole[:-100], whole[-100] ^ 1, *whole[-99:]])
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage in changed:
        path.write_bytes(changed[damage])
    assert start(release) == COMPILED


def test_one_of_other_sources_is_not_used(release):
    with (release / "tiny_shipped.py").open("a") as file:
        file.write("# edited\n")
    assert start(release) == COMPILED


def test_one_of_another_abi_or_instruction_set_is_not_used(made, monkeypatch):
    monkeypatch.syspath_prepend(made)
    monkeypatch.setattr(shipped, "FOLDER", made / "objects")
    assert shipped.load(GROUP, "generic").exports == ["add"]
    sealed = object_path(made).read_bytes()
    for isa, abi in (("avx2", ABI), ("generic", "win64")):
        assert cache.unseal(sealed, shipped.key_of(GROUP, isa, abi)) is None
    assert shipped.load(GROUP, "avx2") is None
    monkeypatch.setattr(shipped, "host_abi", lambda: "win64")
    assert shipped.load(GROUP, "generic") is None
    monkeypatch.setattr(shipped, "host_abi", lambda: None)
    assert shipped.load(GROUP, "generic") is None


@pytest.mark.parametrize(
    ("system", "machine", "bits", "expected"),
    [
        ("linux", "x86_64", 64, "elf-x86_64"),
        ("win32", "AMD64", 64, "win64"),
        ("linux", "x86_64", 32, None),
        ("linux", "aarch64", 64, "elf-aarch64"),
        ("linux", "aarch64", 32, None),
        ("darwin", "x86_64", 64, None),
        ("darwin", "arm64", 64, "macho-arm64"),
        ("win32", "ARM64", 64, "win-arm64"),
        ("linux", "riscv64", 64, None),
    ],
)
def test_the_abi_of_a_host(monkeypatch, system, machine, bits, expected):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(sys, "maxsize", 2 ** (bits - 1) - 1)
    monkeypatch.setattr(shipped.platform, "machine", lambda: machine)
    assert shipped.host_abi() == expected


def test_a_shipped_object_is_what_this_host_would_compile(made, monkeypatch):
    """So it is exactly as fast: targets name a level, never the CPU at hand."""
    monkeypatch.syspath_prepend(made)
    ((_, compiled, _),) = run_jobs([Job(GROUP, "generic", "key")])
    monkeypatch.setattr(shipped, "FOLDER", made / "objects")
    assert compiled.data == shipped.load(GROUP, "generic").data
    for target in TARGETS.values():
        assert target.llvm_cpu in ("x86-64-v4", "x86-64-v3", "neoverse-n1", "cortex-a72", "")


def test_a_release_has_every_group_for_every_instruction_set_of_every_abi():
    jobs = release_jobs(list(TARGETS), list(shipped.ABIS))
    assert len(jobs) == len({job.key for job in jobs}) == len(groups_of("edgellama")) * (2 * 5 + 3 * 3)
    assert {job.isa for job in jobs if job.triple == shipped.ABIS["win64"]} == {
        *("avx512vnni", "avx512", "avxvnni", "avx2", "generic")
    }
    assert {job.isa for job in jobs if job.triple == shipped.ABIS["elf-aarch64"]} == {"i8mm", "dotprod", "neon"}
    assert [job.isa for job in release_jobs(["avx2"], ["elf-aarch64"])] == []


def test_a_name_that_does_not_exist_is_one_sentence(run_python, tmp_path):
    done = run_python("-m", "edgellama.compiler.release", str(tmp_path), "--isas", "avx9000")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no instruction set or ABI avx9000; choose among avx512vnni")
