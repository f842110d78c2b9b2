"""The driver layer on a real GPU: that libcuda means by its functions what the fake one does."""

import subprocess
import sys

import numpy as np
import pytest
from cuda_ptx import PTX, WAITING

from edgellama.cuda.device import Device, device_count
from edgellama.cuda.launch import Arguments
from edgellama.cuda.library import CudaError, OutOfDeviceMemory
from edgellama.cuda.upload import Uploader

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(device_count() == 0, reason="there is no NVIDIA GPU")]

N = 100_000
LOSE = """
from edgellama.cuda.device import Device
from edgellama.cuda.launch import Arguments
from edgellama.cuda.library import DeviceLost
from cuda_ptx import PTX
with Device() as device:
    stream, memory = device.stream(), device.allocate(100)
    stream.launch(device.module(PTX).function("scale"), 1, 32, Arguments(("u64", 4096), ("u32", 32), ("f32", 1.0)))
    for use in (stream.synchronize, device.free_bytes, lambda: device.allocate(10)):
        try:
            use()
        except DeviceLost as error:
            print(error.code)
"""


@pytest.fixture
def device():
    with Device() as opened:
        yield opened


@pytest.fixture
def scaling(device):
    """A stream, numbers on the GPU, and the kernel with arguments that double them."""
    stream, memory = device.stream(), device.allocate(4 * N)
    stream.upload(memory.address, np.arange(N, dtype=np.float32))
    arguments = Arguments(("u64", memory.address), ("u32", N), ("f32", 2.0))
    return stream, memory, device.module(WAITING if device.can_overlap else PTX).function("scale"), arguments


def numbers(stream, memory):
    stream.download(seen := np.zeros(N, np.float32), memory.address)
    stream.synchronize()
    return seen


def test_facts(device):
    assert device.name and device.uuid.startswith("GPU-") and len(device.uuid) == 40
    assert device.compute_capability >= (7, 0) and device.n_multiprocessors >= 1 and device.l2_bytes >= 1 << 18
    assert device.shared_bytes_per_block >= 48 << 10 and device.can_cooperate and device.can_map_host
    assert 0 < device.free_bytes() <= device.memory_bytes


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("shared_bytes", [0, 60_000])
def test_launches(scaling, shared_bytes, overlap):
    stream, memory, function, arguments = scaling
    function.set_shared_bytes(shared_bytes)
    for _ in range(3):
        stream.launch(function, -(-N // 256), 256, arguments, shared_bytes, overlap=overlap)
    assert (numbers(stream, memory) == 8 * np.arange(N, dtype=np.float32)).all()
    assert 1 <= function.registers <= 255 and function.local_bytes == 0


def test_cooperative_launches(device, scaling):
    stream, memory, function, arguments = scaling
    most = function.max_blocks(128) * device.n_multiprocessors
    arguments.set(1, most * 128 if most * 128 < N else N)
    stream.launch(function, most, 128, arguments, cooperative=True)
    count = min(most * 128, N)
    assert (numbers(stream, memory)[:count] == 2 * np.arange(count)).all()
    with pytest.raises(CudaError, match="COOPERATIVE_LAUNCH_TOO_LARGE"):
        stream.launch(function, most + 1, 128, arguments, cooperative=True)


@pytest.mark.parametrize("overlap", [False, True])
def test_graphs(device, scaling, overlap):
    stream, memory, function, arguments = scaling
    pinned = device.pinned(4 * N)
    with stream.capture() as graph:
        for _ in range(4):
            stream.launch(function, -(-N // 256), 256, arguments, overlap=overlap)
        stream.download(pinned.array, memory.address)
    assert graph.n_nodes == 5
    arguments.set(2, 0.0)
    for _ in range(2):
        graph.launch(stream)
    stream.synchronize()
    assert (pinned.array.view(np.float32) == 256 * np.arange(N, dtype=np.float32)).all()


def test_events_and_mapped_memory(device, scaling):
    stream, _, function, arguments = scaling
    first, second, pinned = device.event(), device.event(), device.pinned(4 * N)
    pinned.array.view(np.float32)[:] = np.arange(N)
    arguments.set(0, pinned.device_address)
    stream.record(first)
    stream.launch(function, -(-N // 256), 256, arguments)
    stream.record(second)
    assert 0 < second.seconds_since(first) < 1 and second.is_done()
    assert (pinned.array.view(np.float32) == 2 * np.arange(N)).all()


def test_variables_and_names(device):
    module, stream = device.module(PTX), device.stream()
    address, n_bytes = module.global_address("table")
    stream.fill(address, 7, n_bytes)
    stream.download(seen := np.zeros(1024, np.uint8), address)
    stream.synchronize()
    assert n_bytes == 1024 and (seen == 7).all()
    with pytest.raises(CudaError, match="NOT_FOUND"):
        module.function("absent")


def test_an_upload_arrives(device):
    data = np.random.default_rng(0).integers(0, 256, 10_000_001, np.uint8)
    memory, stream, counted = device.allocate(data.size), device.stream(), []
    uploader = Uploader(device, stream, 1 << 20, counted.append)
    uploader.send(memory.address, data)
    uploader.finish()
    stream.download(seen := np.zeros_like(data), memory.address)
    stream.synchronize()
    assert (seen == data).all() and sum(counted) == data.size


def test_refusals(device):
    with pytest.raises(OutOfDeviceMemory, match="GB are free"):
        device.allocate(device.memory_bytes * 2)
    with pytest.raises(CudaError, match=r"INVALID_PTX: .*; its compiler says: .*nonsense"):
        device.module(PTX.replace(b"mul.f32", b"nonsense.f32"))
    with pytest.raises(CudaError, match="UNSUPPORTED_PTX_VERSION"):
        device.module(PTX.replace(b".version 7.4", b".version 99.9"))


def test_a_hundred_openings_leave_the_memory_as_it_was():
    def open_and_use():
        with Device() as device:
            free = device.free_bytes()
            memory, pinned, stream = device.allocate(64 << 20), device.pinned(1 << 20), device.stream()
            function = device.module(PTX).function("scale")
            with stream.capture() as graph:
                stream.upload(memory.address, pinned.array)
                stream.launch(function, 1, 32, Arguments(("u64", memory.address), ("u32", 32), ("f32", 1.0)))
            graph.launch(stream)
        return free

    open_and_use()
    before = open_and_use()
    frees = [open_and_use() for _ in range(100)]
    assert abs(before - frees[-1]) < 32 << 20


def test_a_lost_device_is_told_of_and_closed(repository):
    done = subprocess.run(
        [sys.executable, "-c", LOSE], capture_output=True, text=True, timeout=120, check=False, cwd=repository / "tests"
    )
    assert done.stdout.split() == ["700"] * 3, done.stderr
    assert not done.stderr and done.returncode == 0
