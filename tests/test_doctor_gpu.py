"""What `edgellama doctor` says of GPUs: with a driver, without, and with one in trouble. It never fails."""

import json
import subprocess
import sys

import pytest
from fake_cuda import FakeCuda, install

from edgellama.cuda import library
from edgellama.doctor import gpu


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The Linux driver's folder with one card."""
    monkeypatch.setattr(gpu, "DRIVER_FOLDER", tmp_path)
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA T4\nIRQ:   29\n")
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\nGCC version: gcc 12.3.0\n"
    )
    return tmp_path


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.delenv("EDGELLAMA_LIBCUDA", raising=False)
    monkeypatch.setattr(library, "NAMES", ("libnone-of-this-name.so.1",))
    library._opened.cache_clear()


def answers(monkeypatch, text):
    """Let the child process print this instead of asking the driver."""
    monkeypatch.setattr(gpu, "COMMAND", [sys.executable, "-c", text])


def test_gpus_are_described(fake_cuda):
    answer = gpu.described()
    assert answer == {
        "devices": [
            {
                "name": "Fake GPU 0",
                "compute_capability": [9, 0],
                "multiprocessors": 132,
                "memory_bytes": 1 << 30,
                "free_bytes": 1 << 30,
                "cuda_version": [13, 0],
            }
        ],
        "problem": "",
    }


def test_a_gpu_in_a_line(fake_cuda, monkeypatch, folder):
    answers(monkeypatch, f"print({json.dumps(gpu.described())!r})")
    found = gpu.check_gpu()
    assert found.state == "well"
    assert found.text == "Fake GPU 0, compute capability 9.0, 1.1 of 1.1 GB free, driver 580.95.05 (CUDA 13.0)"
    assert found.facts["nvidia"] == ["NVIDIA T4"] and found.facts["devices"][0]["free_bytes"] == 1 << 30


def test_without_its_folder_the_driver_is_named_by_its_cuda(fake_cuda, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "DRIVER_FOLDER", tmp_path)
    answers(monkeypatch, f"print({json.dumps(gpu.described())!r})")
    assert gpu.check_gpu().text.endswith(", driver for CUDA 13.0")


def test_no_driver_is_well(monkeypatch, tmp_path, no_library):
    monkeypatch.setattr(gpu, "DRIVER_FOLDER", tmp_path)
    found = gpu.check_gpu()
    assert found.state == "well" and found.facts == {"nvidia": [], "driver": "", "devices": []}
    assert found.text.startswith("no NVIDIA driver was found") and found.text.endswith("a GPU is not needed")


def test_a_card_whose_library_is_missing_is_noted(folder, no_library):
    found = gpu.check_gpu()
    assert found.state == "note" and found.text.splitlines()[0] == "NVIDIA T4"
    assert "no NVIDIA driver was found (libcuda.so.1 or nvcuda.dll)" in found.text


@pytest.mark.parametrize(
    ("options", "text"), [({"n_devices": 0}, "CUDA_ERROR_NO_DEVICE"), ({"version": 11000}, "supports CUDA 11.0")]
)
def test_a_driver_that_shows_nothing(monkeypatch, options, text):
    install(monkeypatch, FakeCuda(**options))
    answer = gpu.described()
    assert answer["devices"] == [] and text in answer["problem"]
    answers(monkeypatch, f"print({json.dumps(answer)!r})")
    found = gpu.check_gpu()
    assert found.state == "note" and found.text == f"{answer['problem']}; a GPU is not needed"


def test_a_gpu_that_cannot_be_opened_hides_none_before_it(monkeypatch):
    fake = install(monkeypatch, FakeCuda(n_devices=2))
    fake.fail("cuDevicePrimaryCtxRetain", 46, after=1)
    answer = gpu.described()
    assert (
        len(answer["devices"]) == 1 and "opening Fake GPU 1 failed with CUDA_ERROR_DEVICE_UNAVAIL" in answer["problem"]
    )
    answers(monkeypatch, f"print({json.dumps(answer)!r})")
    found = gpu.check_gpu()
    assert found.state == "note" and len(found.text.splitlines()) == 2


@pytest.mark.parametrize(
    "text", ["import os; os.abort()", "print('nonsense')", "pass", "import sys; print('{}'); sys.exit(3)"]
)
def test_a_driver_that_crashes_is_noted(fake_cuda, monkeypatch, text):
    answers(monkeypatch, text)
    found = gpu.check_gpu()
    assert found.state == "note" and "crashed" in found.text


def test_a_driver_that_never_answers_is_noted(fake_cuda, monkeypatch):
    answers(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(gpu, "TIMEOUT_SECONDS", 0.2)
    found = gpu.check_gpu()
    assert found.state == "note" and "did not answer within 0.2 s" in found.text


def test_the_child_process_answers():
    done = subprocess.run(gpu.COMMAND, capture_output=True, text=True, timeout=60, check=True)
    assert set(json.loads(done.stdout)) == {"devices", "problem"}
