"""The emulator of CUDA threads finds a missing barrier, a copy nobody waits for, and writes behind shared memory."""

from pathlib import Path

import numpy as np
import pytest
from cuda_emulation import ORDERS, floats, why_not_here
from kernel_harness import Guarded

from edgellama.compiler.cache import KernelObject
from edgellama.cuda.emulator import Emulator

N_THREADS = 64
BUILD = """
import sys
from edgellama.cuda import build
sys.path.append(sys.argv[1])
build.KERNELS = ("cuda_racing_kernels",)
data, _ = build.emulated()
open(sys.argv[2], "wb").write(data)
"""


@pytest.fixture(scope="module")
def racing(tmp_path_factory, run_python) -> Emulator:
    """The kernels of cuda_racing_kernels.py."""
    if reason := why_not_here():
        pytest.skip(reason)
    path = tmp_path_factory.mktemp("racing") / "kernels.o"
    done = run_python("-c", BUILD, str(Path(__file__).parent), str(path))
    assert done.returncode == 0, done.stderr
    return Emulator(KernelObject("", [], path.read_bytes()))


def passed_on(emulator: Emulator, name: str, order: int) -> bool:
    """Whether every thread received what the one before sent."""
    x, out = np.arange(N_THREADS), Guarded(N_THREADS)
    source = floats(x)
    assert source.address % 16 == 0
    emulator.seed = order
    emulator.launch(name, 1, N_THREADS, 4 * N_THREADS, [source.address, out.address])
    return np.array_equal(out.check(), np.maximum(x - 1, 0))


@pytest.mark.parametrize("name", ["pass_on", "copy_on"], ids=["barrier", "copy"])
def test_what_is_missing_shows(racing, name):
    assert passed_on(racing, f"{name}_too_early", 0), "in the order of the threads nothing is wrong"
    assert not any(passed_on(racing, f"{name}_too_early", order) for order in ORDERS)
    assert all(passed_on(racing, name, order) for order in (0, *ORDERS))


def test_writes_behind_shared_memory_show(racing):
    x = floats([1])
    racing.launch("send_too_much", 1, N_THREADS, 4 * (N_THREADS + 8), [x.address, 0])
    with pytest.raises(RuntimeError, match="send_too_much wrote behind its 256 bytes of shared memory"):
        racing.launch("send_too_much", 1, N_THREADS, 4 * N_THREADS, [x.address, 0])


def test_every_order_runs_each_thread_once(racing):
    for order in range(1, 20):
        assert passed_on(racing, "pass_on", order)
