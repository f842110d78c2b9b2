"""A story that a small trained model tells, on an emulated GPU: heads of 8, rows that no block of 32 fills."""

import numpy as np
import pytest
from cuda_emulation import open_model

N_TOLD = 24  # of its tokens


@pytest.fixture(scope="module")
def story(shared_data):
    folder = shared_data / "trained" / "stories260K"
    with np.load(folder / "expected_story.npz") as arrays:
        return folder / "f32.gguf", dict(arrays)


@pytest.mark.slow
def test_story(story, emulated_cuda):
    path, expected = story
    with open_model(path, "cuda") as model:
        answer = model.generate([1], N_TOLD, temperature=0)
        "".join(answer)
    assert answer.stats.ids == expected["ids"][1 : 1 + N_TOLD].tolist()


@pytest.mark.slow
def test_logits_of_every_position(story, emulated_cuda):
    path, expected = story
    with open_model(path, "cuda") as model:
        logits = model.logits(expected["ids"])
    assert np.abs(logits - expected["logits"]).max() < 0.1  # float16 activations, weights and cache
    assert (logits.argmax(axis=1) == expected["logits"].argmax(axis=1)).all()
