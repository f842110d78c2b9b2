"""Families on an emulated GPU: what the CPU makes of a checkpoint's weights, the GPU's kernels make too."""

import numpy as np
import pytest
from model_files import relative_rms
from test_families import folders, read_reference

import edgellama
from converters.conversion import ConvertOptions, plan_conversion, write_conversion

N_PROMPT, N_TOKENS = 12, 15  # a prompt in one step, then tokens one by one


@pytest.mark.slow
@pytest.mark.parametrize("folder", list(folders()) or [None], ids=lambda path: path.name if path else "none")
def test_logits(folder, emulated_cuda, tmp_path):
    if folder is None:
        pytest.skip("../shared/data is not there, and EDGELLAMA_REFERENCE_MODELS names no folder")
    path = tmp_path / "model.gguf"
    write_conversion(plan_conversion(folder, ConvertOptions("f32")), path)
    ids = read_reference(folder).ids[:N_TOKENS]
    found = {}
    for device in ("cpu", "cuda"):
        with edgellama.load(path, device, threads=1, context=64) as model, model.new_session() as session:
            prompt = session.logits(ids[:N_PROMPT])
            found[device] = np.stack([*prompt, *(session.decode(token_id) for token_id in ids[N_PROMPT:])])
    assert relative_rms(found["cuda"], found["cpu"]) < 0.01
