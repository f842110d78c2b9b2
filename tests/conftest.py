"""What all tests share. They run against this tree, here and in child processes, whether or not a copy is installed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

sys.path.insert(0, str(REPOSITORY))
# Children inherit the environment: `python -m edgellama` in any folder then means this tree too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
# In the background of a shell the tests would ignore Ctrl-C, and so would children whose handling of it is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real tokenizers, models and expected values that lie beside the repository on some machines."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is not there")
    return SHARED_DATA


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run this interpreter with arguments in a child process, without stdin, and return what it printed."""

    def run(*arguments: str, timeout: float = 120, **options) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False, **options
        )

    return run


@pytest.fixture(scope="session")
def synthetic_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A small GGUF model of random weights by type name, written once a session."""
    pytest.importorskip("gguf", reason="the gguf package writes the models of this test")
    folder, made = tmp_path_factory.mktemp("models"), {}

    def make(type_name: str, shape: str = "tiny", seed: int = 0) -> Path:
        from bench.synthesize import SHAPES, synthesize

        key = (shape, type_name, seed)
        if key not in made:
            made[key] = synthesize(SHAPES[shape], type_name, folder / f"{shape}-{len(made)}.gguf", seed)
        return made[key]

    return make


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch):
    """A driver with one GPU in place of libcuda. The test fails if it was misused or anything was not freed."""
    from fake_cuda import FakeCuda, install

    fake = install(monkeypatch, FakeCuda())
    yield fake
    assert not fake.problems, "\n".join(fake.problems)
    assert not fake.left()


@pytest.fixture(scope="session")
def emulator():
    """The CUDA kernels, to run on this CPU. Compiling them takes about a minute where the cache does not have them."""
    from cuda_emulation import load_emulator

    return load_emulator()


@pytest.fixture(scope="session")
def gpu(emulator):
    """Launches single CUDA kernels on this CPU."""
    from cuda_emulation import Gpu

    return Gpu(emulator)


@pytest.fixture
def emulated_cuda(fake_cuda, emulator):
    """The same driver with a GPU of few multiprocessors, whose kernels run on this CPU."""
    fake_cuda.attributes[16], emulator.seed, fake_cuda.on_launch = 2, 0, emulator.launch
    return fake_cuda
