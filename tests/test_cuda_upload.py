"""Uploads through page-locked buffers: every byte arrives, from any memory, and no buffer is overwritten too early."""

import mmap

import numpy as np
import pytest

from edgellama.cuda.device import Device
from edgellama.cuda.library import CudaError
from edgellama.cuda.upload import Uploader

STAGING_BYTES = 4096


@pytest.fixture
def device(fake_cuda):
    with Device() as opened:
        yield opened


def received(device, memory):
    device.stream().download(seen := np.zeros(memory.n_bytes, np.uint8), memory.address)
    return seen


@pytest.mark.parametrize("n_bytes", [1, 4095, 4096, 4097, 8192, 8193, 50_001])
def test_every_byte_arrives_and_is_counted(device, n_bytes):
    counted, data = [], np.random.default_rng(n_bytes).integers(0, 256, n_bytes, np.uint8)
    memory = device.allocate(n_bytes)
    uploader = Uploader(device, device.stream(), STAGING_BYTES, counted.append)
    uploader.send(memory.address, data)
    uploader.finish()
    assert (received(device, memory) == data).all()
    assert sum(counted) == n_bytes and max(counted) <= STAGING_BYTES and len(counted) == -(-n_bytes // STAGING_BYTES)


def test_from_a_mapped_file_and_other_buffers(device, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(content := np.random.default_rng(0).bytes(30_000))
    memory, floats = device.allocate(60_000), np.arange(2500, dtype=np.float32).reshape(50, 50)
    uploader = Uploader(device, device.stream(), STAGING_BYTES)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        uploader.send(memory.address, mapping)
    uploader.send(memory.address + 30_000, memoryview(content)[:20_000])
    uploader.send(memory.address + 50_000, floats)
    uploader.send(memory.address, floats[:0])
    uploader.finish()
    assert received(device, memory).tobytes() == content + content[:20_000] + floats.tobytes()


def test_an_array_with_gaps_is_refused(device):
    uploader = Uploader(device, device.stream(), STAGING_BYTES)
    with pytest.raises(ValueError, match="contiguous"):
        uploader.send(0, np.zeros((4, 4))[:, 1])


def test_a_buffer_is_not_filled_before_its_last_copy_is_done(device, fake_cuda, monkeypatch):
    """With copies that are done as late as the driver may: when somebody waits for an event after them."""
    waiting, done_by_event = [], {}
    submit = type(fake_cuda).submit

    def submit_later(self, stream, work):
        waiting.append(lambda: submit(self, stream, work))

    def record(self, event, stream):
        done_by_event[event] = len(waiting)

    def synchronize(self, event):
        for position in range(done_by_event.get(event, 0)):
            waiting[position]()
            waiting[position] = lambda: None

    for name, method in (("cuEventRecord", record), ("cuEventSynchronize", synchronize)):
        method.needs_context = True
        monkeypatch.setitem(fake_cuda._methods, name, method)
    monkeypatch.setattr(type(fake_cuda), "submit", submit_later)
    memory, data = device.allocate(50_000), np.random.default_rng(0).integers(0, 256, 50_000, np.uint8)
    uploader = Uploader(device, device.stream(), STAGING_BYTES)
    uploader.send(memory.address, data)
    assert len(waiting) == 13
    for work in waiting:
        work()
    monkeypatch.undo()
    assert (np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * 50_000).from_address(memory.address)) == data).all()


def test_the_next_part_is_copied_while_the_last_one_travels(device, fake_cuda):
    """Two buffers in turn, and no waiting but for the copy before the last."""
    uploader, memory = Uploader(device, device.stream(), STAGING_BYTES), device.allocate(5 * STAGING_BYTES)
    uploader.send(memory.address, np.zeros(5 * STAGING_BYTES, np.uint8))
    assert fake_cuda.calls["cuMemcpyHtoDAsync_v2"] == fake_cuda.calls["cuEventSynchronize"] == 5
    assert fake_cuda.calls["cuStreamSynchronize"] == 0 and fake_cuda.calls["cuMemHostAlloc"] == 2
    uploader.finish()
    assert fake_cuda.calls["cuStreamSynchronize"] == 1 and fake_cuda.calls["cuMemFreeHost"] == 2


def test_an_upload_that_fails_leaves_nothing(fake_cuda):
    with Device() as device, pytest.raises(CudaError, match="copying to the GPU"):
        memory = device.allocate(50_000)
        fake_cuda.fail("cuMemcpyHtoDAsync_v2", 304, after=3)
        Uploader(device, device.stream(), STAGING_BYTES).send(memory.address, np.zeros(50_000, np.uint8))
    assert not fake_cuda.left()
