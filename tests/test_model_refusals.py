"""What a model refuses, and how: one sentence, before a kernel sees a number; and files that are almost right."""

from pathlib import Path

import gguf_builder
import numpy as np
import pytest
from model_files import with_metadata, with_tensor, with_twin, without_tensor

import edgellama
from bench.perturb import copy_model
from edgellama.errors import EdgellamaError
from edgellama.frame import Frame
from edgellama.model import StepToken

IDS = [1, 20, 30]
NORM, GATE, DOWN = "blk.0.attn_norm.weight", "blk.1.ffn_gate.weight", "blk.1.ffn_down.weight"


@pytest.fixture(scope="module")
def path(synthetic_model) -> Path:
    return synthetic_model("q4_0")


@pytest.fixture(scope="module")
def model(path):
    with edgellama.load(path, threads=1, context=300, sequences=3) as model:
        yield model


def refuses(call, *arguments, **options) -> str:
    """The one sentence that the call ends with."""
    with pytest.raises(EdgellamaError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Ids and steps

BAD_IDS = [
    ([-1], "token id -1 is out of range: 0 to 511 here"),
    ([512], "token id 512 is out of range: 0 to 511 here"),
    ([1, 2**31], "token id 2147483648 is out of range"),
    ([2**32 + 1], "token id 4294967297 is out of range"),
    ([2**63], "token id 9223372036854775808 is out of range"),
    ([2**70], "token ids must be integers"),
    ([1.0], "token ids must be integers, not float64"),
    ([float("nan")], "token ids must be integers"),
    ([True], "token ids must be integers, not bool"),
    ([None], "token ids must be integers"),
    (["a"], "token ids must be integers"),
    ([], "there must be at least one token"),
    ([1] * 301, r"301 tokens do not fit into the context of 300"),
]


@pytest.mark.parametrize(("ids", "problem"), BAD_IDS, ids=lambda value: str(value)[:20])
def test_ids_that_are_none(model, ids, problem):
    with model.new_session() as session:
        for call in (model.logits, session.prefill, session.logits, lambda ids: list(model.generate(ids))):
            with pytest.raises(EdgellamaError, match=problem):
                call(ids)
        assert session.ids == []
        if len(ids) == 1:
            refuses(session.decode, ids[0])
            refuses(model.step, [StepToken(session, ids[0])])
    assert np.isfinite(model.logits(IDS)).all()


def test_steps_of_wrong_sessions(model, path):
    with model.new_session() as session:
        assert "at most one token of each session" in refuses(model.step, [StepToken(session, 1)] * 2)
        with edgellama.load(path, threads=1) as other:
            assert "its own model" in refuses(other.step, [StepToken(session, 1)])
    assert "1 to 512 tokens" in refuses(model.step, [])
    assert "closed" in refuses(model.step, [StepToken(session, 1)])


def test_closed_session(model):
    session, other = model.new_session(), model.new_session()
    expected = other.prefill(IDS)
    session.close()
    for call in (session.prefill, session.logits, lambda ids: session.decode(ids[0]), lambda ids: session.truncate(0)):
        assert refuses(call, IDS) == "this session is closed"
    refuses(session.reset)
    other.truncate(2)
    np.testing.assert_array_equal(other.decode(IDS[2]), expected)
    other.close()


@pytest.mark.parametrize("n_tokens", [-1, 4])
def test_truncation_out_of_range(model, n_tokens):
    with model.new_session() as session:
        session.prefill(IDS)
        assert refuses(session.truncate, n_tokens) == f"this session has 3 tokens and cannot keep {n_tokens}"


def test_closed_model(path):
    model = edgellama.load(path, threads=1)
    session = model.new_session()
    model.close()
    model.close()
    for call in (model.logits, session.prefill, lambda ids: list(model.generate(ids))):
        assert refuses(call, IDS) == "this model is closed"
    assert refuses(model.new_session) == "this model is closed"
    session.close()


@pytest.fixture
def frame():
    frame = Frame(max_tokens=4, max_rows=2, vocabulary=10, n_slots=2, pages_per_slot=2)
    frame.page_table[0] = 0, 1
    return frame


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (([], [], [], []), "1 to 4 tokens"),
        (([1] * 5, [0] * 5, [0] * 5, []), "1 to 4 tokens"),
        (([1] * 3, [0] * 3, [0] * 3, [0, 1, 2]), "at most 2 rows"),
        (([1], [-1], [0], []), "position -1"),
        (([1], [512], [0], []), "position 512 is out of range: 0 to 511"),
        (([1], [0], [2], []), "slot 2 is out of range: 0 to 1"),
        (([1], [0], [-1], []), "slot -1"),
        (([1], [0], [1], []), "no cache page"),
        (([1], [0], [0], [1]), "row of logits 1"),
        (([1], [0], [0], [-1]), "row of logits -1"),
        (([1, 2], [0], [0, 0], []), "one position and one slot for each token"),
        (([1, 2], [0, 1], [0], []), "one position and one slot for each token"),
        (([1], [0.0], [0], []), "positions must be integers"),
        (([1], [0], [None], []), "slots must be integers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_frames_that_no_kernel_may_see(frame, step, problem):
    arrays = (np.array(values, None if values else np.int64) for values in step)
    assert problem in refuses(frame.fill, *arrays)


# Loading


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"device": "tpu"}, "there is no device 'tpu': choose cpu, cuda, cuda:1"),
        ({"device": "cpu:1"}, "there is no device 'cpu:1'"),
        ({"device": "cuda:x"}, "there is no device 'cuda:x'"),
        ({"device": None}, "there is no device None"),
        ({"device": "cuda", "kv_type": "q8_0"}, "on this device the KV cache is f16; q8_0 needs --device cpu"),
        ({"gpu_layers": -1}, "gpu_layers must be an integer from 0 to"),
        ({"gpu_layers": 2}, "layers on a GPU need --device cuda"),
        ({"kv_type": "f8"}, "kv_type must be one of .*f16.*, and is 'f8'"),
        ({"kv_type": None}, "kv_type must be one of"),
        ({"threads": 0}, "threads must be an integer from 1 to 255, and is 0"),
        ({"threads": 256}, "threads must be an integer from 1 to 255, and is 256"),
        ({"sequences": -1}, "sequences must be an integer from 0 to 256, and is -1"),
        ({"sequences": 257}, "sequences must be an integer from 0 to 256"),
        ({"context": 0}, "context must be an integer from 1 to"),
        ({"context": "9"}, "context must be an integer from 1 to"),
        ({"threads": 1.5}, "threads must be an integer from 1 to 255, and is 1.5"),
        ({"threads": True}, "threads must be an integer from 1 to 255, and is True"),
        ({"context": 2049}, "the context must be 1 to 2048"),
    ],
    ids=str,
)
def test_load_options(path, options, problem):
    with pytest.raises(EdgellamaError, match=problem):
        edgellama.load(path, **options)


def widened(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, values])


def emptied(values: np.ndarray) -> np.ndarray:
    return values[:-1]


BAD_TENSORS = {
    "missing matrix": (without_tensor(DOWN), "'blk.1.ffn_down.weight' is missing; its shape would be (256, 512)"),
    "missing norm": (without_tensor("output_norm.weight"), "'output_norm.weight' is missing"),
    "missing embedding": (without_tensor("token_embd.weight"), "'token_embd.weight' is missing"),
    "one too many": (with_twin(DOWN, "blk.2.ffn_down.weight"), "'blk.2.ffn_down.weight' is no part of a llama model"),
    "unknown": (with_twin(DOWN, "blk.0.odd.weight"), "'blk.0.odd.weight' is no part of a llama model"),
    "more rows": (with_tensor(GATE, widened), "has shape (1024, 256), and must have (512, 256)"),
    "fewer rows": (with_tensor(GATE, emptied), "has shape (511, 256), and must have (512, 256)"),
    "long norm": (with_tensor(NORM, widened), "has shape (512,), and must have (256,)"),
    "matrix for norm": (with_tensor(NORM, lambda v: v[None]), "has shape (1, 256), and must have (256,)"),
}


@pytest.mark.parametrize("case", BAD_TENSORS, ids=str)
def test_tensors_that_do_not_fit(path, tmp_path, case):
    change, problem = BAD_TENSORS[case]
    copy = copy_model(path, tmp_path / "copy.gguf", change)
    sentence = refuses(edgellama.load, copy)
    assert str(copy) in sentence
    assert problem in sentence


def test_unknown_family(path, tmp_path):
    sentence = refuses(edgellama.load, with_metadata(path, tmp_path / "x.gguf", general__architecture="starling"))
    assert "starling" in sentence
    assert "llama" in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [("block_count", 3), ("embedding_length", 512), ("feed_forward_length", 256), ("attention.head_count_kv", 8)],
)
def test_numbers_that_deny_the_tensors(path, tmp_path, key, value):
    other = copy_model(path, tmp_path / "x.gguf", metadata={f"llama.{key}": value})
    assert str(other) in refuses(edgellama.load, other)


# Values that are no numbers: no crash and no hang, whatever comes out


def spoiled(value: float, kind: type, stride: int):
    """Every `stride`-th two or four bytes of a tensor become `value`; in Q4_0 a block's scale is its first half."""

    def change(stored: np.ndarray) -> np.ndarray:
        stored.view(kind).reshape(-1)[::stride] = value
        return stored

    return change


@pytest.mark.parametrize("repack", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65504.0])
@pytest.mark.parametrize(("type_name", "stride"), [("q4_0", 9), ("q8_0", 17), ("q4_k", 72), ("f16", 5), ("iq4_nl", 9)])
def test_values_that_are_no_numbers(synthetic_model, tmp_path, type_name, stride, value, repack):
    change = spoiled(value, np.float16, stride)
    for tensor in (GATE, "token_embd.weight", "blk.0.attn_k.weight", "output.weight"):
        copy = copy_model(synthetic_model(type_name), tmp_path / "copy.gguf", with_tensor(tensor, change))
        with edgellama.load(copy, threads=2, context=64, repack=repack) as model:
            assert model.logits(IDS).shape == (3, 512)
            list(model.generate(IDS, 3, seed=1))
            list(model.generate(IDS, 3, temperature=0))
            assert all(0 <= index < 512 for index in model.last_stats.ids)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_norms_that_are_no_numbers(path, tmp_path, value):
    copy = copy_model(path, tmp_path / "copy.gguf", with_tensor(NORM, spoiled(value, np.float32, 3)))
    with edgellama.load(copy, threads=2, context=64) as model:
        list(model.generate(IDS, 3, temperature=0))
        assert len(model.last_stats.ids) == 3


def test_the_vision_part_of_a_model(tmp_path):
    target = tmp_path / "mmproj.gguf"
    target.write_bytes(gguf_builder.gguf([gguf_builder.key("general.architecture", gguf_builder.STRING, "clip")]))
    assert "mmproj.gguf: is the part of a model that sees pictures" in refuses(edgellama.load, target)
