"""The limit kernels do the work they are counted for, and the sampler's arithmetic and choices."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bench import limits
from edgellama import system
from edgellama.compiler.children import child_environment
from edgellama.simd.detect import executable_isas
from edgellama.simd.target import TARGETS

TRIPLE = "x86_64-unknown-linux-gnu"


@pytest.fixture(scope="module")
def kernels():
    return limits.kernels()


@pytest.mark.parametrize("name", limits.STREAM_KERNELS)
def test_stream_kernels_read_every_byte(kernels, name):
    data, out = system.allocate(4096, huge=False), system.allocate(4096, huge=False)
    data[:] = 1
    data[-1] = 3
    kernels.function(name, 3)(data.ctypes.data, len(data), out.ctypes.data)
    if name == "limit_stream_narrow":  # a lane a byte
        assert out[:64].view(np.int32).sum() == data.sum(dtype=np.int64)
    else:
        expected = data.view(np.int32).sum(dtype=np.int64)
        assert (out[:64].view(np.int32).sum(dtype=np.int64) - expected) % 2**32 == 0


def test_peak_kernels_do_all_the_operations_they_are_counted_for(kernels):
    operands, out = system.allocate(4096, huge=False), system.allocate(4096, huge=False)
    count = np.zeros(1, np.int64)
    kernels.function("limit_vectors_per_turn", 1)(count.ctypes.data)
    n_turns, n_accumulators = 5, count[0] // 4
    operands[:] = 3
    kernels.function("limit_dots", 3)(operands.ctypes.data, n_turns, out.ctypes.data)
    sums = out.view(np.int32)[: n_accumulators * 16].reshape(-1, 16)
    assert (sums == np.arange(n_accumulators)[:, None] + 4 * n_turns * 4 * 9).all()
    operands.view(np.float32)[:] = 2
    kernels.function("limit_products", 3)(operands.ctypes.data, n_turns, out.ctypes.data)
    sums = out.view(np.float32)[: n_accumulators * 16].reshape(-1, 16)
    assert (sums == np.arange(n_accumulators)[:, None] + 4 * n_turns * 4).all()


def loop_of(assembly: str, name: str) -> str:
    """The instructions of one kernel."""
    return re.search(rf"^{name}:$(.*?)^\.Lfunc_end", assembly, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize(("isa", "mnemonic"), [("avx512vnni", "vpdpbusd"), ("avxvnni", "vpdpbusd"), ("avx2", "vpmadd")])
def test_the_inner_loop_holds_every_dot(isa, mnemonic, tmp_path):
    """Nothing was merged or moved out of the loop, and with VNNI nothing is spilled."""
    text, target = tmp_path / "limits.s", TARGETS[isa]
    command = [sys.executable, "-P", "-m", "edgellama.compiler.build", "--isa", isa, "--triple", TRIPLE]
    command += ["--modules", "bench.limit_kernels", "--assembly", str(text), "--output", str(tmp_path / "limits.o")]
    subprocess.run(command, env=child_environment(), check=True, capture_output=True, timeout=300)
    dots = loop_of(text.read_text(), "limit_dots")
    n_accumulators, registers = (12, 1) if target.tile_tokens * target.tile_halves >= 12 else (5, 2)
    per_dot = 2 if mnemonic == "vpmadd" else 1
    assert dots.count(mnemonic) >= 4 * n_accumulators * registers * per_dot
    if "vnni" in isa:
        assert "(%rsp)" not in dots


def test_the_buffer_is_larger_than_the_cache_and_fits_into_memory():
    assert limits.stream_buffer_bytes(32 << 20, 64 << 30) == 1 << 30
    assert limits.stream_buffer_bytes(512 << 20, 64 << 30) == 2 << 30
    assert limits.stream_buffer_bytes(None, 1 << 30) == 256 << 20
    assert limits.stream_buffer_bytes(None, 0) == limits.PIECE_BYTES


def test_threads_share_the_pieces_and_each_is_done_once():
    done = []
    with ThreadPoolExecutor(3) as pool:
        timing = limits.run_pieces(pool, 3, lambda piece, thread: done.append((piece, thread)), 50)
    assert sorted(piece for piece, _ in done) == list(range(50))
    assert timing.seconds > 0 and timing.cpu_share <= 1.1


def test_samples_are_kept_with_the_share_of_the_cores(monkeypatch):
    small = system.allocate(2 * limits.PIECE_BYTES)
    small.fill(1)
    monkeypatch.setattr(limits, "_stream_buffer", lambda: small)
    monkeypatch.setattr(limits, "SAMPLE_SECONDS", 0.004)
    monkeypatch.setattr(limits, "PIECE_SECONDS", 0.001)
    with limits.LimitSampler(1) as sampler:
        for limit in limits.LIMITS:
            assert sampler.sample(limit) > 1e8
            assert len(sampler.samples[limit]) == 1 and 0 < sampler.cpu_shares[limit][0] <= 1.1
        assert sampler.stream_kernel in limits.STREAM_KERNELS


def test_a_faster_instruction_set_has_a_higher_peak(run_python):
    """The peak is that of the target, not of the machine: generic code must not reach it."""
    if executable_isas()[0] == "generic":
        pytest.skip("this host has one instruction set only")
    code = "from bench import limits\nprint(max(limits.LimitSampler(1).sample('int8') for _ in range(2)))"
    best, generic = (
        float(run_python("-c", code, env=child_environment() | {"EDGELLAMA_ISA": isa}).stdout)
        for isa in (executable_isas()[0], "generic")
    )
    assert best > 2 * generic


def test_text_tells_a_busy_machine():
    row = {"threads": 2, "stream": 3e10, "int8": 9e11, "float": 2e11, "stream_kernel": "limit_stream"}
    row |= {"spread": {name: [1e10, 1e12] for name in limits.LIMITS}}
    report = {"cpu": "some", "isa": "avx2", "limits": [row | {"cpu_share": dict.fromkeys(limits.LIMITS, 0.99)}]}
    assert "read 30.0 [10.0 to 1000.0] GB/s" in limits.text_of(report) and "busy" not in limits.text_of(report)
    report["limits"] = [row | {"cpu_share": dict.fromkeys(limits.LIMITS, 0.5)}]
    assert "busy: the threads had 50% of their cores" in limits.text_of(report)
