"""simd_kernels.py compiled once per test run and instruction set, each in a process of its own; helpers to call it."""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from edgellama.compiler.cache import KernelObject, unseal
from edgellama.compiler.children import child_environment
from edgellama.compiler.loader import Kernels
from edgellama.simd.detect import executable_isas, host_architecture
from edgellama.simd.target import TARGETS

TRIPLES = {"x86-64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
HOST_TRIPLE = TRIPLES.get(host_architecture())
HERE = Path(__file__).resolve().parent


def run_build(*arguments: str) -> subprocess.CompletedProcess:
    """Run the build command with tests/ on its import path."""
    environment = child_environment()
    environment["PYTHONPATH"] += os.pathsep + str(HERE)
    command = [sys.executable, "-P", "-m", "edgellama.compiler.build", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, timeout=300)


def triple_of(isa: str) -> str:
    """Linux on the architecture of an instruction set; those for any architecture are built for this host's."""
    return TRIPLES.get(TARGETS[isa].architecture) or HOST_TRIPLE or TRIPLES["x86-64"]


@cache
def build(isa: str, cpu: str = "") -> tuple[KernelObject, str]:
    """The object of simd_kernels.py for Linux, and its assembly; with all features of a CPU if one is named."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "assembly.s"
        options = ["--isa", isa, "--triple", triple_of(isa), "--key", isa, "--assembly", str(text), "--cpu", cpu]
        done = run_build("--modules", "simd_kernels", *options)
        assert done.returncode == 0, done.stderr.decode()
        return unseal(done.stdout, isa), text.read_text()


@cache
def all_builds() -> dict[str, tuple[KernelObject, str]]:
    """{instruction set: (object, assembly)}, also for instruction sets that this host cannot run."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(TARGETS, pool.map(build, TARGETS), strict=True))


def host_variants() -> list[str]:
    """What host_kernels takes: instruction sets of this host, and AVX-VNNI in the encoding that AVX-512 has for it."""
    isas = executable_isas()
    return [*isas, *(["avxvnni on cascadelake"] if "avx512vnni" in isas and "avxvnni" not in isas else [])]


def host_kernels(variant: str) -> Kernels:
    isa, _, cpu = variant.partition(" on ")
    return Kernels(isa, [build(isa, cpu)[0]])


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy whose first byte lies on a 64-byte boundary."""
    space = np.zeros(values.nbytes + 64, np.uint8)
    start = -space.ctypes.data % 64
    copy = space[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def call(kernels: Kernels, name: str, *arguments: np.ndarray | int) -> None:
    numbers = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    kernels.function(name, len(numbers))(*numbers)
