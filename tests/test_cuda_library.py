"""Finding libcuda, and the sentences that its errors become."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_cuda import FakeCuda, install
from fake_cuda_calls import TYPES

from edgellama.cuda import library
from edgellama.cuda.device import Device, device_count
from edgellama.cuda.library import CudaError, DeviceLost, NoDriverError, OutOfDeviceMemory, cuda_error, load_library
from edgellama.cuda.prototypes import PROTOTYPES
from edgellama.cuda.results import GONE, LOST, RESULTS
from edgellama.errors import EdgellamaError

HEADER = Path("/usr/local/cuda/include/cuda.h")


def test_types_are_those_of_the_header():
    """The fake's were written from cuda.h, apart from the driver layer's."""
    declared = {name: [TYPES[letter] for letter in method.types] for name, method in FakeCuda()._methods.items()}
    assert declared == {name: list(types) for name, (_, types) in PROTOTYPES.items()}


@pytest.mark.skipif(not HEADER.exists(), reason="there is no CUDA toolkit")
def test_results_are_those_of_the_header():
    text = HEADER.read_text(errors="replace")
    found = dict(re.findall(r"^\s*CUDA_ERROR_(\w+)\s*=\s*(\d+),?$", text, re.MULTILINE))
    newest = {name: int(code) for name, code in found.items()}
    assert len(newest) > 60
    assert {name: RESULTS.get(code, ("?",))[0] for name, code in newest.items()} == {name: name for name in newest}


@pytest.mark.parametrize("code", sorted(RESULTS))
def test_every_result_is_a_sentence(code):
    error = cuda_error(code, "doing something")
    name, cause = RESULTS[code]
    assert error.code == code and isinstance(error, EdgellamaError)
    assert str(error) == f"doing something failed with CUDA_ERROR_{name}: {cause}"
    assert len(cause) > 20 and not cause.endswith(".") and "\n" not in cause and cause[:1].strip()
    assert isinstance(error, DeviceLost) == (code in LOST) and isinstance(error, OutOfDeviceMemory) == (code == 2)


def test_a_result_that_is_not_known_is_named_by_its_number():
    assert "CUDA error 12345" in str(cuda_error(12345, "doing something"))


def test_after_a_loss_nothing_needs_to_be_freed():
    assert LOST < GONE


def test_no_driver(monkeypatch):
    monkeypatch.delenv("EDGELLAMA_LIBCUDA", raising=False)
    monkeypatch.setattr(library, "NAMES", ("libnone-of-this-name.so.1",))
    library._opened.cache_clear()
    with pytest.raises(NoDriverError, match=r"^no NVIDIA driver was found .* or run on the CPU$"):
        load_library()
    assert device_count() == 0


def test_a_library_that_is_named_and_cannot_be_loaded(monkeypatch, tmp_path):
    path = tmp_path / "libcuda.so.1"
    path.write_text("no library")
    monkeypatch.setenv("EDGELLAMA_LIBCUDA", str(path))
    with pytest.raises(EdgellamaError, match=f"EDGELLAMA_LIBCUDA names {re.escape(str(path))}, which cannot be loaded"):
        load_library()
    assert device_count() == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a library that is on every system")
def test_a_library_that_is_not_libcuda(monkeypatch):
    monkeypatch.setenv("EDGELLAMA_LIBCUDA", "libc.so.6")
    with pytest.raises(EdgellamaError, match="loaded as libcuda is none"):
        load_library()


def test_no_device(monkeypatch):
    install(monkeypatch, FakeCuda(n_devices=0))
    assert device_count() == 0
    with pytest.raises(
        CudaError, match="starting the NVIDIA driver failed with CUDA_ERROR_NO_DEVICE: there is a driver"
    ):
        Device()


def test_a_device_that_is_not_there(fake_cuda):
    assert device_count() == 1
    for index in (1, -1):
        with pytest.raises(EdgellamaError, match=f"there is no GPU {index}: the driver shows 1, numbered from 0"):
            Device(index)


@pytest.mark.parametrize(
    ("version", "missing", "text"),
    [
        (11020, (), "supports CUDA 11.2, and CUDA 11.4 .driver 470. is needed: update the driver"),
        (10020, ("cuGraphInstantiateWithFlags",), "supports CUDA 10.2 and lacks cuGraphInstantiateWithFlags"),
    ],
)
def test_an_old_driver(monkeypatch, version, missing, text):
    fake = install(monkeypatch, FakeCuda(version=version, missing=missing))
    with pytest.raises(EdgellamaError, match=text):
        load_library()
    assert device_count() == 0 and "cuInit" not in fake.calls


def test_the_driver_is_loaded_and_started_once(fake_cuda):
    assert load_library() is load_library()
    assert fake_cuda.calls["cuInit"] == fake_cuda.calls["cuDriverGetVersion"] == 1
    assert load_library().version == (13, 0)


def test_a_driver_that_did_not_start_may_start_later(monkeypatch):
    fake = install(monkeypatch, FakeCuda())
    fake.fail("cuInit", 802)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_SYSTEM_NOT_READY: .*nvidia-fabricmanager"):
        load_library()
    assert device_count() == 1


def test_a_library_that_lacks_a_function_is_refused_at_once(monkeypatch):
    for name in PROTOTYPES:
        install(monkeypatch, FakeCuda(missing=(name,)))
        if name == "cuLaunchKernelEx":
            load_library()
            continue
        with pytest.raises(EdgellamaError, match=r"update the driver|is none"):
            load_library()


def test_importing_the_layer_loads_no_library(run_python):
    code = "import edgellama.cuda.device, sys; print([m for m in sys.modules if m.startswith(('numba', 'llvmlite'))])"
    done: subprocess.CompletedProcess = run_python("-c", code)
    assert done.stdout.strip() == "[]", done.stderr
