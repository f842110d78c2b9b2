"""Kernels, their arguments and modules, and graphs of them, on the fake driver."""

import gc
import weakref

import numpy as np
import pytest
from cuda_ptx import PTX
from fake_cuda import FakeCuda, install

from edgellama.cuda.device import Device
from edgellama.cuda.launch import Arguments
from edgellama.cuda.library import CudaError, DeviceLost
from edgellama.errors import EdgellamaError


@pytest.fixture
def device(fake_cuda):
    with Device() as opened:
        yield opened


def scale(name, n_blocks, n_threads, shared_bytes, values):
    """What an emulator would do with the kernel `scale`."""
    address, count, factor = values
    memory = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_float * count).from_address(address))
    memory *= np.float32(factor)


def test_a_kernel_gets_its_arguments(device, fake_cuda):
    fake_cuda.on_launch = scale
    stream, memory, values = device.stream(), device.allocate(400), np.arange(100, dtype=np.float32)
    function = device.module(PTX).function("scale")
    arguments = Arguments(("u64", memory.address), ("u32", 100), ("f32", 2.5))
    stream.upload(memory.address, values)
    stream.launch(function, 4, 128, arguments, shared_bytes=1024)
    arguments.set(1, 50)
    arguments.set(2, -1.0)
    stream.launch(function, (4, 2, 1), 128, arguments)
    stream.download(received := np.zeros(100, np.float32), memory.address)
    assert (received == np.where(np.arange(100) < 50, -2.5, 2.5).astype(np.float32) * values).all()
    assert fake_cuda.launches == [
        ("scale", 4, 128, 1024, (memory.address, 100, 2.5), False, False),
        ("scale", (4, 2, 1), 128, 0, (memory.address, 50, -1.0), False, False),
    ]


def test_integers_of_numpy_are_integers(device, fake_cuda):
    stream, memory = device.stream(), device.allocate(np.int64(4096))
    assert device.pinned(np.int64(10)).array.shape == (10,)
    stream.fill(np.uint64(memory.address), np.uint8(1), np.int64(4096))
    stream.launch(device.module(PTX).function("nothing"), np.int64(3), np.int32(32), Arguments(), np.int64(64))
    assert fake_cuda.launches == [("nothing", 3, 32, 64, (), False, False)]


def test_a_kernel_that_fails_in_the_emulator_is_a_lost_device(device, fake_cuda):
    fake_cuda.on_launch = lambda *launch: 1 / 0
    with pytest.raises(DeviceLost, match="a kernel crashed"):
        device.stream().launch(device.module(PTX).function("nothing"), 1, 32, Arguments())
    assert "ZeroDivisionError" in fake_cuda.problems.pop()


def test_launching_again_builds_nothing_new(device, fake_cuda):
    stream, function = device.stream(), device.module(PTX).function("nothing")
    for _ in range(5):
        stream.launch(function, 3, 32, Arguments())
    assert len(stream._launches) == 1 and fake_cuda.calls["cuLaunchKernelEx"] == 5
    assert fake_cuda.calls["cuCtxSetCurrent"] == 1
    for n_blocks in range(1, 3000):
        stream.launch(function, n_blocks, 32, Arguments())
    assert len(stream._launches) <= 1024


@pytest.mark.parametrize(
    ("kind", "value", "seen"),
    [
        ("u64", 2**64 - 1, 2**64 - 1),
        ("u64", np.uint64(2**63), 2**63),
        ("i64", -(2**63), 2**64 - 2**63),
        ("f32", np.float32(0.1), None),
        ("f64", 1, None),
    ],
)
def test_arguments_hold_what_their_type_can(kind, value, seen):
    arguments = Arguments((kind, value))
    assert arguments._cells[0].value == value
    if seen is not None:
        assert int.from_bytes(bytes(arguments._cells[0]), "little") == seen


@pytest.mark.parametrize(("kind", "value"), [("u32", 2**32), ("u32", -1), ("i32", 2**31), ("u64", 2**64), ("u8", 256)])
def test_an_argument_that_would_be_cut_off_is_refused(kind, value):
    with pytest.raises(OverflowError, match=f"{value} does not fit into the kernel's argument 0"):
        Arguments((kind, value))


def test_a_fraction_is_no_integer():
    with pytest.raises(TypeError):
        Arguments(("u32", 1.5))


@pytest.mark.parametrize("cooperative", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("missing", [(), ("cuLaunchKernelEx",)])
def test_ways_to_launch(monkeypatch, cooperative, overlap, missing):
    fake = install(monkeypatch, FakeCuda(missing=missing))
    with Device() as device:
        function, stream = device.module(PTX).function("scale"), device.stream()
        arguments = Arguments(("u64", 2**63 + 1), ("u32", 2), ("f32", 3.0))
        stream.launch(function, 7, 256, arguments, 2048, cooperative, overlap)
    launch = ("scale", 7, 256, 2048, (2**63 + 1, 2, 3.0), cooperative, overlap and not missing)
    assert fake.launches == [launch] and not fake.problems and not fake.left()


@pytest.mark.parametrize(("version", "capability"), [(12020, (9, 0)), (13000, (8, 9))])
def test_kernels_do_not_overlap_where_they_cannot(monkeypatch, version, capability):
    fake = install(monkeypatch, FakeCuda(version=version, compute_capability=capability))
    with Device() as device:
        device.stream().launch(device.module(PTX).function("nothing"), 1, 32, Arguments(), overlap=True)
    assert not fake.launches[0].overlap


def test_shared_memory_has_to_be_asked_for(device):
    function, stream = device.module(PTX).function("nothing"), device.stream()
    expected = "launching the kernel nothing with 2 blocks of 64 threads and 100,000 bytes of shared memory failed"
    with pytest.raises(CudaError, match=expected):
        stream.launch(function, 2, 64, Arguments(), shared_bytes=100_000)
    function.set_shared_bytes(100_000)
    stream.launch(function, 2, 64, Arguments(), shared_bytes=100_000)
    with pytest.raises(CudaError, match=r"300,000 bytes of shared memory \(the GPU has 232,448 per block\) failed"):
        function.set_shared_bytes(300_000)


def test_what_fits_can_run_at_once_and_more_cannot(device):
    function, stream = device.module(PTX).function("nothing"), device.stream()
    assert function.max_blocks(512) == 4 and function.max_blocks(512, 100_000) == 2
    stream.launch(function, 4 * device.n_multiprocessors, 512, Arguments(), cooperative=True)
    with pytest.raises(CudaError, match="shared memory at once failed with CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"):
        stream.launch(function, 4 * device.n_multiprocessors + 1, 512, Arguments(), cooperative=True)


def test_more_threads_than_the_kernel_was_compiled_for(device):
    function = device.module(PTX).function("scale")
    with pytest.raises(CudaError, match="1024 threads"):
        device.stream().launch(function, 1, 1024, Arguments(("u64", 0), ("u32", 0), ("f32", 0.0)))


def test_names_in_a_module(device):
    module = device.module(PTX)
    assert module.function("scale") is module.function("scale")
    assert module.function("scale").registers == 32 and module.function("scale").local_bytes == 0
    address, n_bytes = module.global_address("table")
    device.stream().fill(address, 1, n_bytes)
    assert n_bytes == 1024
    with pytest.raises(CudaError, match="finding the kernel absent failed with CUDA_ERROR_NOT_FOUND"):
        module.function("absent")
    with pytest.raises(CudaError, match="finding the variable absent failed with CUDA_ERROR_NOT_FOUND"):
        module.global_address("absent")


def test_a_kernel_ends_with_its_module(device):
    module, stream = device.module(PTX), device.stream()
    function = module.function("nothing")
    module.free()
    with pytest.raises(EdgellamaError, match="the kernel nothing was used after its module had been freed"):
        stream.launch(function, 1, 32, Arguments())


def test_the_compilers_complaint_is_in_the_sentence(device, fake_cuda):
    fake_cuda.jit_failure = (
        218,
        "ptxas application ptx input, line 12; error : Unknown symbol 'x'\nptxas fatal : no\n",
    )
    with pytest.raises(CudaError) as caught:
        device.module(PTX)
    assert str(caught.value) == (
        "loading kernels (PTX 7.4 for sm_75) failed with CUDA_ERROR_INVALID_PTX: the driver's compiler refuses the "
        "kernels: please report it with what the compiler says; the driver is for CUDA 13.0 and the GPU has compute "
        "capability 9.0; its compiler says: ptxas application ptx input, line 12; error : Unknown symbol 'x' / "
        "ptxas fatal : no"
    )


def test_a_long_complaint_is_cut(device, fake_cuda):
    fake_cuda.jit_failure = (218, "error\n" * 10_000)
    with pytest.raises(CudaError) as caught:
        device.module(PTX)
    assert 600 < len(str(caught.value)) < 1000


def test_kernels_that_are_newer_than_the_driver(device):
    expected = (
        r"PTX 9.4 for sm_75\) failed with CUDA_ERROR_UNSUPPORTED_PTX_VERSION: .*update the NVIDIA driver; .*CUDA 13.0"
    )
    with pytest.raises(CudaError, match=expected):
        device.module(PTX.replace(b".version 7.4", b".version 9.4"))


def test_kernels_for_another_gpu(device, fake_cuda):
    with pytest.raises(
        CudaError, match=r"PTX 7.4 for sm_120\) failed with CUDA_ERROR_INVALID_PTX.*SM version is higher"
    ):
        device.module(PTX.replace(b"sm_75", b"sm_120"))
    with pytest.raises(CudaError, match=r"loading kernels \(68 bytes of machine code\) .*another kind of GPU"):
        device.module(b"\x7fELF" + bytes(64))
    with pytest.raises(CudaError, match="INVALID_IMAGE"):
        device.module(b"nonsense")


def test_a_graph_does_its_work_when_it_is_launched(device, fake_cuda):
    fake_cuda.on_launch = scale
    stream, memory = device.stream(), device.allocate(400)
    function = device.module(PTX).function("scale")
    arguments = Arguments(("u64", memory.address), ("u32", 100), ("f32", 2.0))
    received = np.zeros(100, np.float32)
    with stream.capture() as graph:
        stream.upload(memory.address, np.arange(100, dtype=np.float32))
        gc.collect()
        stream.launch(function, 1, 128, arguments)
        arguments.set(2, 3.0)
        stream.launch(function, 1, 128, arguments)
        stream.download(received, memory.address)
    assert graph.n_nodes == 4 and not fake_cuda.launches
    arguments.set(2, 100.0)
    for _ in range(2):
        received[:] = 0
        graph.launch(stream)
        stream.synchronize()
        assert (received == 6 * np.arange(100)).all()
    assert len(fake_cuda.launches) == 4
    graph.free()
    with pytest.raises(EdgellamaError, match="a graph of Fake GPU 0 was used after it had been freed"):
        graph.launch(stream)


def test_a_graph_holds_the_arrays_that_it_copies(device):
    stream, memory = device.stream(), device.allocate(400)
    with stream.capture() as graph:
        array = np.zeros(100, np.float32)
        stream.upload(memory.address, array)
        seen = weakref.ref(array)
        del array
    gc.collect()
    assert seen() is not None
    graph.free()
    gc.collect()
    assert seen() is None


def test_what_was_freed_is_forgotten(device):
    seen = [weakref.ref(made) for made in (device.allocate(100), device.stream(), device.event(), device.module(PTX))]
    gc.collect()
    for made in seen:
        made().free()
    gc.collect()
    assert [made() for made in seen] == [None] * 4


def test_an_exception_ends_the_recording(device, fake_cuda):
    stream, memory = device.stream(), device.allocate(100)
    with pytest.raises(ZeroDivisionError), stream.capture():
        stream.fill(memory.address, 1, 100)
        raise ZeroDivisionError
    stream.fill(memory.address, 2, 100)
    stream.synchronize()
    stream.download(seen := np.zeros(100, np.uint8), memory.address)
    assert (seen == 2).all()
    assert fake_cuda.calls["cuGraphDestroy"] == 1


def test_waiting_inside_a_recording_is_refused(device):
    stream = device.stream()
    with pytest.raises(CudaError, match="STREAM_CAPTURE_UNSUPPORTED: a graph was being recorded"), stream.capture():
        stream.synchronize()
    with stream.capture():
        pass


def test_memory_may_be_allocated_and_freed_inside_a_recording(device):
    stream = device.stream()
    with stream.capture() as graph:
        memory, brief = device.allocate(100), device.allocate(100)
        brief.free()
        stream.fill(memory.address, 1, 100)
    graph.launch(stream)
    assert graph.n_nodes == 1


def test_a_stream_that_was_freed_launches_nothing(device):
    stream, function = device.stream(), device.module(PTX).function("nothing")
    stream.launch(function, 1, 32, Arguments())
    stream.free()
    with pytest.raises(EdgellamaError, match="a stream of Fake GPU 0 was used after it had been freed"):
        stream.launch(function, 1, 32, Arguments())
