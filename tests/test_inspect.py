"""`edgellama inspect`: its figures against sums done by hand, its two outputs, and what it does with odd files."""

import argparse
import json
import math

import numpy as np
import pytest
from gguf_builder import ARRAY, FLOAT32, INT32, STRING, gguf, key, llama_file

import edgellama
from edgellama.commands import inspect
from edgellama.errors import GGUFError

# token_embd 5 x 64 f32, attn_q 64 x 64 q8_0, ffn_up 96 x 64 q4_0, output_norm 64 f32
WEIGHT_BYTES = 1280 + 4352 + 3456 + 256
N_VALUES = 320 + 4096 + 6144 + 64


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(llama_file())
    return path


@pytest.fixture
def run(capsys):
    def run_command(*arguments) -> str:
        parser = argparse.ArgumentParser()
        inspect.add_arguments(parser)
        assert inspect.main(parser.parse_args([str(argument) for argument in arguments])) == 0
        return capsys.readouterr().out

    return run_command


def test_json_is_complete(run, model):
    report = json.loads(run(model, "--json"))
    assert report["path"] == str(model)
    assert report["metadata"]["tokenizer.ggml.tokens"] == ["<unk>", "<s>", "</s>", "a", "b"]
    assert report["metadata"]["tokenizer.ggml.token_type"] == [2, 3, 3, 1, 1]
    assert report["metadata"]["llama.block_count"] == 2
    assert [found["name"] for found in report["tensors"]][:2] == ["token_embd.weight", "blk.0.attn_q.weight"]
    assert report["tensors"][2]["shape"] == [96, 64]
    assert report["tensors"][2]["n_bytes"] == 3456
    assert report["types"]["q4_0"] == {"n_tensors": 1, "n_values": 6144, "n_bytes": 3456, "bits_per_weight": 4.5}
    assert list(report["types"]) == ["q8_0", "q4_0", "f32"]
    assert (report["n_values"], report["weight_bytes"]) == (N_VALUES, WEIGHT_BYTES)
    assert report["config"]["n_kv_heads"] == 2
    assert report["config"]["rope_scaling"]["kind"] == "none"


def test_memory(run, synthetic_model):
    """The shape "tiny": d_model 256, 2 layers, 2 KV heads of 32, feed-forward 512, vocabulary 512, Q4_0 throughout."""
    memory = json.loads(run(synthetic_model("q4_0"), "--json", "--context", 1000))["memory"]
    assert memory["context"] == 1000
    positions, heads = 1024, 2 * 2  # whole pages of 256; of all layers
    assert memory["kv_cache_f16_bytes"] == positions * heads * (32 + 32) * 2
    assert memory["kv_cache_q8_0_bytes"] == positions * heads * (34 + 34)
    matrices = 2 * (256 * (256 + 64 + 64 + 256) + 3 * 256 * 512) + 256 * 512  # without the embedding, read in the file
    assert memory["weight_bytes"] == matrices * 18 // 32
    parts = ("weight_bytes", "kv_cache_f16_bytes", "activation_bytes", "runtime_bytes")
    assert memory["total_f16_bytes"] == sum(memory[part] for part in parts)
    assert memory["total_q8_0_bytes"] < memory["total_f16_bytes"]


def test_a_load_counts_the_same(run, synthetic_model):
    path = synthetic_model("q4_0")
    memory = json.loads(run(path, "--json", "--context", 700))["memory"]
    with edgellama.load(path, context=700, sequences=0) as model:
        assert model.memory.total_bytes == memory["total_f16_bytes"]
        held = sum(len(array) for array in model.machine._keep if array.dtype == np.uint8)
        held += sum(map(len, model.machine.workers.memory))
    needs = model.memory
    assert held == pytest.approx(needs.total_bytes - needs.runtime_bytes, rel=0.001)


def test_a_model_that_cannot_run_has_no_figures(run, model):
    report = json.loads(run(model, "--json"))
    assert report["memory"] is None and report["config"] and "tensor" in report["config_error"]
    assert "This version cannot run it: " in run(model)


def test_context_defaults_to_the_models(run, synthetic_model):
    assert json.loads(run(synthetic_model("q4_0"), "--json"))["memory"]["context"] == 2048


def test_text(run, model):
    text = run(model)
    lines = [line.split() for line in text.splitlines()]
    assert ["llama.embedding_length", "uint32", "64"] in lines
    assert ["q4_0", "1", "6,144", "3.4", "KiB", "4.50"] in lines
    assert ["all", "4", "10,624", "9.1", "KiB", f"{8 * WEIGHT_BYTES / N_VALUES:.2f}"] in lines
    assert "[<unk>, <s>, </s>, a, ...] (5 items)" in text
    assert "blk.0.ffn_up.weight" not in text


def test_text_of_memory(run, synthetic_model):
    text = run(synthetic_model("q4_0"), "--context", 512)
    lines = [line.split() for line in text.splitlines()]
    assert ["memory", "at", "512", "tokens", "size"] in lines
    assert ["KV", "cache,", "f16", "256.0", "KiB"] in lines


def test_text_lists_tensors_when_asked(run, model):
    lines = [line.split() for line in run(model, "--tensors").splitlines()]
    assert ["blk.0.ffn_up.weight", "q4_0", "96", "x", "64", "3.4", "KiB"] in lines
    assert ["output_norm.weight", "f32", "64", "256", "B"] in lines


def test_file_that_is_no_model(run, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf([key("general.name", STRING, "x")]))
    assert f"Not a model: {path}: key 'general.architecture' is missing" in run(path)
    report = json.loads(run(path, "--json"))
    assert report["memory"] is None and report["config"] is None
    assert "general.architecture" in report["config_error"]


def test_odd_values_stay_harmless(run, tmp_path):
    path = tmp_path / "m.gguf"
    nested = (ARRAY, [(INT32, [1, 2]), (STRING, ["a"])])
    keys = [key("clear\x1b[2J", STRING, "a\x1b[2J\nb"), key("nan", FLOAT32, math.nan), key("nested", ARRAY, nested)]
    path.write_bytes(gguf([*keys, key("bytes", STRING, b"\xff"), key("long", STRING, "x" * 5000)]))
    text = run(path)
    assert "\x1b" not in text
    assert "a\\x1b[2J\\nb" in text
    assert f"{'x' * 72}... (5,000 characters)" in text
    metadata = json.loads(run(path, "--json"))["metadata"]
    assert metadata["nan"] == "nan"
    assert metadata["nested"] == [[1, 2], ["a"]]
    assert metadata["long"] == "x" * 5000


def test_unreadable_file_is_one_sentence(run, tmp_path):
    with pytest.raises(GGUFError, match="no such file"):
        run(tmp_path / "absent.gguf")


@pytest.mark.parametrize("context", ["0", "-5", "many"])
def test_context_must_be_positive(run, model, context):
    with pytest.raises(SystemExit):
        run(model, "--context", context)
