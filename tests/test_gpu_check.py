"""The check of a GPU, on an emulated one: what is measured there must run when there is a GPU at last."""

import numpy as np
import pytest

from bench import gpu_check, gpu_correct
from bench.gpu_models import FP8, GpuModel


@pytest.fixture
def small_sizes(monkeypatch):
    """What an emulator can do in seconds."""
    monkeypatch.setattr(gpu_check, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(gpu_check, "SHORT", 3)
    monkeypatch.setattr(gpu_check, "LONG", 300)
    monkeypatch.setattr(gpu_check, "PROMPTS", (1, 5, 20))
    monkeypatch.setattr(gpu_check, "N_DECODED", 2)
    monkeypatch.setattr(gpu_correct, "TYPES", ("pure:Q8_0",))
    monkeypatch.setattr(gpu_correct, "N_TOKENS", 5)
    monkeypatch.setattr(gpu_correct, "QUESTIONS", ())


@pytest.mark.parametrize("type_name", ["Q4_0", pytest.param("Q4_K_M", marks=pytest.mark.slow), FP8])
def test_models_of_random_weights(emulated_cuda, type_name):
    """Numbers of a sensible size come out: no scale is too large, none was forgotten."""
    model = GpuModel("tiny", type_name, context=512)
    try:
        model.fill_frame(1, 0)
        logits = model.machine.run()
        assert np.isfinite(logits).all() and 0.01 < logits.std() < 100
        assert model.weight_bytes > 500_000
    finally:
        model.close()


@pytest.mark.slow
def test_a_record(emulated_cuda, small_sizes, capsys):
    record = gpu_check.measure("tiny:Q8_0", 1e12, with_detail=True, context=512)
    gpu_check.show_record(record)
    printed = capsys.readouterr().out
    assert "matvec_q8_0" in printed and "gemm_q8_0" in printed and "tiny:Q8_0" in printed
    assert record["decode_at_3"] > 0 and record["prefill_20"] > 0 and record["decode_share_at_300"] > 0


def test_results_are_compared(emulated_cuda, small_sizes, capsys):
    quantized, *_ = gpu_check.check_results("cuda")
    assert quantized["type_name"] == "Q8_0" and quantized["decode"] < 0.1
    assert "Q8_0" in capsys.readouterr().out
