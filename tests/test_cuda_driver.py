"""Devices, memory and streams on the fake driver, their lifetimes, and what happens when any call fails."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cuda_ptx import PTX
from fake_cuda import FakeCuda, install

from edgellama.cuda.device import Device
from edgellama.cuda.launch import Arguments
from edgellama.cuda.library import CudaError, DeviceLost, OutOfDeviceMemory
from edgellama.errors import EdgellamaError


@pytest.fixture
def device(fake_cuda):
    with Device() as opened:
        yield opened


def test_the_facts_of_a_device(device, fake_cuda):
    assert (device.index, device.name, device.uuid) == (0, "Fake GPU 0", "GPU-00112233-4455-6677-0000-000000000000")
    assert (device.compute_capability, device.driver_version) == ((9, 0), (13, 0))
    assert (device.n_multiprocessors, device.l2_bytes, device.shared_bytes_per_block) == (132, 50 << 20, 227 << 10)
    assert device.memory_bytes == device.free_bytes() == 1 << 30
    assert device.can_cooperate is True and device.can_map_host is True


def test_memory_is_allocated_aligned_and_freed(device, fake_cuda):
    memory = device.allocate(1000)
    assert memory.n_bytes == 1000 and memory.address % 256 == 0
    assert device.free_bytes() == device.memory_bytes - 1000
    memory.free()
    memory.free()
    assert device.free_bytes() == device.memory_bytes and fake_cuda.calls["cuMemFree_v2"] == 1
    with pytest.raises(EdgellamaError, match="memory of Fake GPU 0 was used after it had been freed"):
        _ = memory.address


def test_nothing_at_all_can_be_allocated(device):
    assert device.allocate(0).n_bytes == 0
    assert device.pinned(0).array.size == 0


def test_out_of_memory_says_how_much_was_asked_and_how_much_is_free(fake_cuda):
    fake_cuda.memory_bytes = 100_000_000
    with Device() as device:
        device.allocate(20_000_000)
        expected = (
            "allocating 2.50 GB on Fake GPU 0 failed with CUDA_ERROR_OUT_OF_MEMORY: .*; 0.08 GB of 0.10 GB are free$"
        )
        with pytest.raises(OutOfDeviceMemory, match=expected) as caught:
            device.allocate(2_500_000_000)
        assert caught.value.code == 2
        device.allocate(1000)


def test_host_memory_that_cannot_be_locked(device, fake_cuda):
    fake_cuda.lockable_bytes = 1 << 20
    with pytest.raises(
        OutOfDeviceMemory, match=r"page-locking 2,000,000 bytes .*limits page-locked memory \(ulimit -l"
    ):
        device.pinned(2_000_000)


def test_copies_go_there_and_back(device):
    stream, memory = device.stream(), device.allocate(1 << 16)
    sent = np.random.default_rng(0).integers(0, 256, (64, 256), np.uint8)
    received = np.zeros_like(sent)
    stream.fill(memory.address, 7, 1 << 16)
    stream.upload(memory.address, sent)
    stream.copy(memory.address + (1 << 15), memory.address, sent.nbytes)
    stream.download(received, memory.address + (1 << 15))
    stream.synchronize()
    assert (received == sent).all()
    stream.download(received, memory.address + (1 << 15) - sent.nbytes // 2)
    assert (received[:32] == 7).all() and (received[32:] == sent[:32]).all()
    stream.upload(memory.address, sent[:0])


def test_memory_starts_as_garbage_and_fill_sets_exactly_its_bytes(device):
    stream, memory, seen = device.stream(), device.allocate(64), np.zeros(64, np.uint8)
    stream.fill(memory.address + 3, 5, 10)
    stream.download(seen, memory.address)
    assert (seen[3:13] == 5).all() and (seen[:3] != 5).all() and (seen[13:] != 5).all()


def test_arrays_that_cannot_be_copied(device):
    stream, memory = device.stream(), device.allocate(1024)
    with pytest.raises(ValueError, match="contiguous"):
        stream.upload(memory.address, np.zeros((8, 8), np.float32)[:, ::2])
    frozen = np.zeros(8)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="may be written"):
        stream.download(frozen, memory.address)


def test_a_copy_past_the_end_is_an_error_with_its_size(fake_cuda):
    with Device() as device:
        memory = device.allocate(100)
        expected = r"copying to the GPU Fake GPU 0 \(101 bytes\) failed with CUDA_ERROR_INVALID_VALUE"
        with pytest.raises(CudaError, match=expected):
            device.stream().upload(memory.address, np.zeros(101, np.uint8))
    assert len(fake_cuda.problems) == 1
    fake_cuda.problems.clear()


def test_pinned_memory_is_seen_from_both_sides(device):
    pinned, memory, stream = device.pinned(4096), device.allocate(4096), device.stream()
    pinned.array[:] = np.arange(4096) % 251
    stream.upload(memory.address, pinned.array)
    stream.fill(pinned.device_address, 0, 4096)
    assert not pinned.array.any() and pinned.array.ctypes.data == pinned.address
    stream.copy(pinned.device_address, memory.address, 4096)
    assert (pinned.array == np.arange(4096) % 251).all()
    pinned.free()
    with pytest.raises(EdgellamaError, match="after it had been freed"):
        _ = pinned.array


def test_a_gpu_that_cannot_map_host_memory(fake_cuda):
    fake_cuda.attributes[19] = 0
    with Device() as device:
        assert device.pinned(100).device_address == 0 and device.can_map_host is False


def test_events_take_the_time_and_order_streams(device, fake_cuda):
    first, second, stream, other = device.event(), device.event(), device.stream(), device.stream()
    assert first.is_done()
    stream.record(first)
    other.wait(first)
    stream.record(second)
    second.synchronize()
    assert second.is_done() and 0 <= second.seconds_since(first) < 60
    assert fake_cuda.calls["cuStreamWaitEvent"] == 1
    fake_cuda.fail("cuEventQuery", 600)
    assert not second.is_done()
    fake_cuda.fail("cuEventQuery", 719)
    with pytest.raises(DeviceLost, match="working on the GPU failed with CUDA_ERROR_LAUNCH_FAILED"):
        second.is_done()


def make_one_of_each(device):
    stream, event, module = device.stream(), device.event(), device.module(PTX)
    memory, pinned = device.allocate(1000), device.pinned(1000)
    pinned.array[:] = 1
    function = module.function("scale")
    function.set_shared_bytes(60_000)
    arguments = Arguments(("u64", memory.address), ("u32", 10), ("f32", 1.0))
    with stream.capture() as graph:
        stream.upload(memory.address, pinned.array)
        stream.launch(function, 1, 32, arguments)
    graph.launch(stream)
    stream.launch(function, 1, 32, arguments, cooperative=True)
    stream.record(event)
    event.synchronize()
    stream.download(np.zeros(1000, np.uint8), memory.address)
    stream.synchronize()
    graph.free()
    device.allocate(2000)


def test_a_hundred_openings_and_closings_leave_nothing(fake_cuda):
    for _ in range(100):
        device = Device()
        assert device.free_bytes() == device.memory_bytes
        make_one_of_each(device)
        device.close()
        device.close()
        assert not fake_cuda.left()
    assert fake_cuda.calls["cuInit"] == 1


def test_nothing_works_after_closing(fake_cuda):
    device = Device()
    memory, stream = device.allocate(100), device.stream()
    device.close()
    for use in (lambda: device.allocate(1), device.free_bytes, stream.synchronize, lambda: memory.address):
        with pytest.raises(EdgellamaError, match="Fake GPU 0 was used after it had been"):
            use()
    memory.free()
    with Device() as again:
        again.allocate(100)


def test_a_device_that_is_forgotten_is_closed(fake_cuda):
    make_one_of_each(Device())
    gc.collect()
    assert not fake_cuda.left()


def test_a_device_that_is_collected_during_another_ones_launch_does_no_harm(device, fake_cuda):
    stream, function = device.stream(), device.module(PTX).function("nothing")
    stream.launch(function, 1, 32, Arguments())
    Device().allocate(100)
    stream.launch(function, 1, 32, Arguments())
    gc.collect()
    fake_cuda.calls.clear()
    stream.launch(function, 1, 32, Arguments())
    assert not fake_cuda.calls["cuCtxSetCurrent"] and fake_cuda.left().count("memory") == 0


def test_devices_share_a_context_and_end_apart(fake_cuda):
    first, second = Device(), Device()
    memory = second.allocate(100)
    first.close()
    second.stream().fill(memory.address, 0, 100)
    second.close()


def test_two_gpus_in_turn(monkeypatch):
    fake = install(monkeypatch, FakeCuda(n_devices=2))
    with Device(0) as first, Device(1) as second:
        assert first.uuid != second.uuid and second.name == "Fake GPU 1"
        streams = {device: (device.stream(), device.allocate(64)) for device in (first, second)}
        for _ in range(3):
            for stream, memory in streams.values():
                stream.fill(memory.address, 1, 64)
    assert not fake.problems and not fake.left()


def test_all_threads_may_use_a_device(device, fake_cuda):
    stream, memory = device.stream(), device.allocate(8 * 1000)
    function = device.module(PTX).function("nothing")
    together = threading.Barrier(4)

    def work(number):
        together.wait(10)
        for _ in range(50):
            own = device.allocate(100)
            stream.fill(memory.address + 1000 * number, number, 1000)
            stream.launch(function, 1, 32, Arguments())
            own.free()
        graph_stream = device.stream()
        with graph_stream.capture() as graph:
            graph_stream.launch(function, 1, 32, Arguments())
        return graph

    with ThreadPoolExecutor(4) as pool:
        graphs = list(pool.map(work, range(4)))
    for graph in graphs:
        graph.launch(stream)
    stream.download(seen := np.zeros(4000, np.uint8), memory.address)
    assert (seen == np.repeat(np.arange(4), 1000)).all() and len(fake_cuda.launches) == 204


def test_a_device_may_be_closed_by_another_thread(fake_cuda):
    device = Device()
    make_one_of_each(device)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(device.close).result()
    with Device() as again:
        make_one_of_each(again)


def test_a_thread_that_used_a_device_is_told_that_another_closed_it(fake_cuda):
    device = Device()
    with ThreadPoolExecutor(1) as pool:
        memory, stream = pool.submit(lambda: (device.allocate(10), device.stream())).result()
        device.close()
        for use in (lambda: device.allocate(10), stream.synchronize, lambda: memory.address):
            with pytest.raises(EdgellamaError, match="was used after it had been"):
                pool.submit(use).result()


@pytest.mark.parametrize("code", [700, 719, 714, 214, 999])
def test_a_lost_device_says_so_in_every_call_and_can_be_closed(fake_cuda, code):
    with Device() as device:
        stream, event, memory = device.stream(), device.event(), device.allocate(1000)
        graph_function = device.module(PTX).function("nothing")
        fake_cuda.lose(code)
        for use in (
            stream.synchronize,
            event.synchronize,
            device.free_bytes,
            lambda: device.allocate(10),
            lambda: device.pinned(10),
            lambda: stream.fill(memory.address, 0, 10),
            lambda: stream.launch(graph_function, 1, 32, Arguments()),
        ):
            with pytest.raises(DeviceLost, match="start the program again") as caught:
                use()
            assert caught.value.code == code
        memory.free()


def test_a_process_that_was_forked_is_told_so(fake_cuda):
    with Device() as device:
        fake_cuda.fail("cuMemAlloc_v2", 3)
        with pytest.raises(CudaError, match="forked from a process that uses the GPU cannot use it"):
            device.allocate(10)


def total_calls(monkeypatch):
    fake = install(monkeypatch, FakeCuda())
    with Device() as device:
        make_one_of_each(device)
    return fake.calls.total()


@pytest.mark.parametrize("code", [1, 2, 304, 719, 999])
def test_any_call_may_fail_and_nothing_is_left(monkeypatch, code):
    """What frees something may ignore the loss of the device; every other failure must be heard of."""
    n_calls, silent = total_calls(monkeypatch), 0
    for number in range(1, n_calls + 1):
        fake = install(monkeypatch, FakeCuda())
        fake.fail_call(number, code)
        try:
            with Device() as device:
                make_one_of_each(device)
            silent += 1
        except CudaError as error:
            assert error.code == code
        assert not fake.left(), f"call {number}"
        assert not fake.problems, f"call {number}: {fake.problems}"
    n_frees = 11  # 8 things, and waiting, leaving and giving back the context
    assert silent == (0 if code < 700 else n_frees)
