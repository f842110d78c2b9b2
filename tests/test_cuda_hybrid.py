"""Models whose first layers run on the CPU and whose last run on an emulated GPU."""

import numpy as np
import pytest
from cuda_emulation import small_model
from model_files import relative_rms

import edgellama
from edgellama.cuda import hybrid
from edgellama.cuda.weights import PART_BYTES
from edgellama.errors import EdgellamaError

IDS = [5, 250, 17, 4, 99, 280, 31]
N_LAYERS = 3


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("hybrid") / "model.gguf", "f16", N_LAYERS)


def load(path, gpu_layers: int | None = None, device: str = "cuda"):
    return edgellama.load(path, device, threads=1, context=512, gpu_layers=gpu_layers)


def logits_of(model) -> np.ndarray:
    """Of a prompt in one step, then of tokens one by one."""
    with model.new_session() as session:
        prompt = session.logits(IDS[:4])
        return np.stack([*prompt, *(session.decode(token_id) for token_id in IDS[4:])])


@pytest.fixture(scope="module")
def expected(path):
    with load(path, device="cpu") as model:
        return logits_of(model)


@pytest.mark.parametrize(
    ("gpu_layers", "machine"),
    [(0, "CpuMachine"), (1, "HybridMachine"), (2, "HybridMachine"), (3, "CudaMachine"), (99, "CudaMachine")],
)
def test_any_number_of_layers(path, expected, emulated_cuda, gpu_layers, machine):
    with load(path, gpu_layers) as model:
        assert type(model.machine).__name__ == machine
        assert relative_rms(logits_of(model), expected) < 0.01


def test_only_the_layers_of_the_gpu_take_its_memory(path, emulated_cuda):
    used = []
    for gpu_layers in (1, 2):
        with load(path, gpu_layers):
            used.append(emulated_cuda.used_bytes())
    assert used[0] < used[1]


def test_as_many_layers_as_fit(path, emulated_cuda, monkeypatch):
    """The estimate is near what a machine takes, and decides."""
    monkeypatch.setattr(hybrid, "KEPT_BYTES", PART_BYTES)  # that unpacking takes for a while
    with load(path, 1) as model:
        one_layer = emulated_cuda.used_bytes()
        assert model.machine.program.n_layers == N_LAYERS
    found = []
    for memory_bytes in (1 << 30, one_layer + PART_BYTES + (2 << 20), PART_BYTES):
        emulated_cuda.memory_bytes = memory_bytes
        with load(path) as model:
            found.append(type(model.machine).__name__)
    assert found == ["CudaMachine", "HybridMachine", "CpuMachine"]


def test_sessions_move_between_a_part_and_the_whole(path, emulated_cuda, tmp_path):
    with load(path, 2) as model, model.new_session() as session:
        session.prefill(IDS[:4])
        session.save(tmp_path / "saved")
        after = session.decode(IDS[4])
    with load(path, device="cpu") as model, model.new_session() as session:
        session.load(tmp_path / "saved")
        assert relative_rms(session.decode(IDS[4]), after) < 0.01
        session.save(tmp_path / "back")
    with load(path, 2) as model, model.new_session() as session:
        session.load(tmp_path / "back")
        assert session.n_tokens == 5


def test_a_gpu_without_room_for_the_part_asked_for_says_so(path, emulated_cuda):
    emulated_cuda.memory_bytes = 1 << 20
    with pytest.raises(EdgellamaError, match="free"):
        load(path, 2)
