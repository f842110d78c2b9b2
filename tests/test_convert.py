"""Whole conversions: logits of our F32 files against other implementations, for every form of a checkpoint."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import (
    CONFIG,
    as_meta,
    llama2c_bytes,
    llama2c_tokenizer,
    safetensors_bytes,
    tensors_of,
    torch_bytes,
    write_hugging_face,
    write_json,
    write_meta,
    write_shards,
)
from hugging_face_forward import logits as hugging_face_logits

import edgellama
from converters.conversion import ConvertOptions, plan_conversion, write_conversion
from converters.sources import meta
from converters.sources.safetensors import read_safetensors
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf

IDS = [256, *range(10, 230, 6)]  # 38 tokens


def convert(source: Path, target: Path, type_name: str = "f32", **options) -> list[str]:
    """Write the file and return the notes."""
    conversion = plan_conversion(source, ConvertOptions(type_name, **options))
    write_conversion(conversion, target)
    return conversion.notes


def file_logits(path: Path, ids=IDS, **options) -> np.ndarray:
    with edgellama.load(path, kv_type="f32", **options) as model:
        return model.logits(ids)


def all_tensors(path: Path) -> dict[str, np.ndarray]:
    """float32 values of an F32 file by name."""
    with open_gguf(path) as file:
        return {t.name: t.data.view("<f4").reshape(t.shape).copy() for t in file.tensors.values()}


def assert_same_tensors(path: Path, other: Path) -> None:
    found, wanted = all_tensors(path), all_tensors(other)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, name)


# Real checkpoints against the logits of transformers


@pytest.mark.parametrize(
    ("source", "config"),
    [
        ("trained/stories260K", None),
        ("trained/stories260K/stories260K_legacy.bin", None),
        ("trained/stories260K/stories260K_v1.bin", None),
        ("models/llama2-gqa", None),
        ("models/llama2-gqa", "config.v5.json"),
        ("models/llama31", None),
        ("models/llama31", "config.v5.json"),
    ],
)
def test_real_checkpoint(shared_data, tmp_path, source, config):
    source = shared_data / source
    folder = source if source.is_dir() else source.parent
    if config:
        source = shutil.copytree(folder, tmp_path / "checkpoint")
        shutil.copyfile(folder / config, source / "config.json")
    assert convert(source, tmp_path / "out.gguf") == []
    expected = np.load(folder / "expected.npz")
    prompt, greedy = expected["input_ids"].tolist(), expected["greedy_ids"].tolist()
    found = file_logits(tmp_path / "out.gguf", [*prompt, *greedy[:-1]])
    assert np.abs(found[: len(prompt)] - expected["logits"]).max() < 1e-3
    assert found[len(prompt) - 1 :].argmax(axis=1).tolist() == greedy


def test_metadata_of_a_known_conversion(shared_data, tmp_path):
    """Every key of llama.cpp's own conversion has the same type and value, and so has every byte of the tensors."""
    source = shared_data / "trained" / "stories260K"
    convert(source, tmp_path / "out.gguf")
    with open_gguf(tmp_path / "out.gguf") as ours, open_gguf(source / "f32.gguf") as theirs:
        for key, value in theirs.metadata.items():
            assert ours.metadata.type_of(key) == theirs.metadata.type_of(key), key
            np.testing.assert_array_equal(ours.metadata[key], value, key)
        more = ours.metadata.keys() - theirs.metadata.keys()
        assert more == {
            "tokenizer.ggml.unknown_token_id",
            "tokenizer.ggml.add_space_prefix",
            "tokenizer.ggml.remove_extra_whitespaces",
            "edgellama.source.files",
            "edgellama.source.sha256",
        }
        assert ours.get("tokenizer.ggml.remove_extra_whitespaces", bool) is True
    assert_same_tensors(tmp_path / "out.gguf", source / "f32.gguf")


@pytest.mark.parametrize("type_name", ["q8_0", "q4_0", "q5_1", "bf16"])
def test_quantized_bytes_are_those_of_llama_quantize(shared_data, tmp_path, type_name):
    convert(shared_data / "models" / "llama2-gqa", tmp_path / "out.gguf", type_name)
    known = shared_data / "quantized" / "llama2-gqa" / f"{type_name.upper()}.gguf"
    with open_gguf(tmp_path / "out.gguf") as ours, open_gguf(known) as theirs:
        assert ours.metadata["general.file_type"] == theirs.metadata["general.file_type"]
        assert ours.tensors.keys() == theirs.tensors.keys()
        for name, tensor in theirs.tensors.items():
            assert ours.tensors[name].type_name == tensor.type_name, name
            if tensor.type_name != "q6_k":  # the output matrix: K-quants are searched for, and ours are other ones
                np.testing.assert_array_equal(ours.tensors[name].data, tensor.data, name)


def test_types_of_a_mix_are_those_of_llama_quantize(shared_data, tmp_path):
    convert(shared_data / "models" / "llama2-gqa", tmp_path / "out.gguf", "q4_k_m")
    known = shared_data / "quantized" / "llama2-gqa" / "Q4_K_M.gguf"
    with open_gguf(tmp_path / "out.gguf") as ours, open_gguf(known) as theirs:
        types = [{name: tensor.type_name for name, tensor in file.tensors.items()} for file in (ours, theirs)]
        assert types[0] == types[1]
        assert ours.metadata["general.file_type"] == theirs.metadata["general.file_type"] == 15


@pytest.mark.parametrize("name", ["llama2-gqa", "llama31"])
def test_the_forward_pass_of_these_tests(shared_data, name):
    """hugging_face_forward.py against transformers' logits."""
    folder = shared_data / "models" / name
    lazy = read_safetensors(folder / "model.safetensors")
    tensors = {name: tensor.rows(0, tensor.n_rows) for name, tensor in lazy.items()}
    config = {"rope_theta": 10000.0} | json.loads((folder / "config.json").read_text())
    expected = np.load(folder / "expected.npz")
    found = hugging_face_logits(config, tensors, expected["input_ids"].tolist())
    np.testing.assert_allclose(found, expected["logits"], atol=1e-3)


# Variants of a tiny checkpoint against a forward pass of our own in Hugging Face's layout

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 16}
LONGROPE |= {"short_factor": [1.0 + i / 10 for i in range(6)], "long_factor": [1.0 + i for i in range(6)]}
VARIANTS = {
    "gqa": {},
    "mha": {"num_key_value_heads": 4},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True},
    "all biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 20},
    "narrow heads": {"head_dim": 8, "num_key_value_heads": 1},
    "odd vocabulary": {"vocab_size": 317},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama3": {"rope_scaling": LLAMA3},
    "yarn": {"rope_scaling": YARN},
    "yarn with all its numbers": {"rope_scaling": YARN | {"attention_factor": 1.3, "beta_fast": 8.0, "beta_slow": 2.0}},
    "longrope": {"rope_scaling": LONGROPE},
}


def in_version_5(config: dict) -> dict:
    """The same config as transformers 5 spells it."""
    scaling = config.get("rope_scaling") or {"rope_type": "default"}
    other = {name: value for name, value in config.items() if name not in ("rope_theta", "rope_scaling")}
    return other | {"rope_parameters": scaling | {"rope_theta": config["rope_theta"]}, "dtype": "float32"}


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(tmp_path, variant, version):
    config = CONFIG | VARIANTS[variant]
    tensors = tensors_of(config)
    written = config if version == 4 else in_version_5(config)
    assert convert(write_hugging_face(tmp_path / "c", written, tensors), tmp_path / "out.gguf") == []
    np.testing.assert_allclose(file_logits(tmp_path / "out.gguf"), hugging_face_logits(config, tensors, IDS), atol=2e-4)


def test_scaling_in_its_old_spelling(tmp_path):
    found = []
    for name in ("type", "rope_type"):
        config = CONFIG | {"rope_scaling": {name: "linear", "factor": 4.0}}
        found.append(plan_conversion(write_hugging_face(tmp_path / "c", config, tensors_of(config))).metadata)
    assert found[0] == found[1] and found[0]["llama.rope.scaling.factor"] == 4.0


def test_dynamic_scaling_is_fixed_for_a_length(tmp_path):
    config = CONFIG | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 24}
    tensors = tensors_of(config)
    source = write_hugging_face(tmp_path / "c", config, tensors)
    (note,) = convert(source, tmp_path / "short.gguf")
    assert "24 positions" in note and "--context" in note
    got = file_logits(tmp_path / "short.gguf", IDS[:24])
    np.testing.assert_allclose(got, hugging_face_logits(config, tensors, IDS[:24]), atol=2e-4)
    (note,) = convert(source, tmp_path / "long.gguf", context=len(IDS))
    assert f"{len(IDS)} positions" in note
    got = file_logits(tmp_path / "long.gguf")
    np.testing.assert_allclose(got, hugging_face_logits(config, tensors, IDS), atol=2e-4)


def test_short_divisors_of_longrope(tmp_path):
    config = CONFIG | {"rope_scaling": LONGROPE}
    tensors = tensors_of(config)
    convert(write_hugging_face(tmp_path / "c", config, tensors), tmp_path / "out.gguf")
    got = file_logits(tmp_path / "out.gguf", IDS[:16], context=16)
    np.testing.assert_allclose(got, hugging_face_logits(config, tensors, IDS[:16]), atol=2e-4)


def test_sliding_window_is_noted(tmp_path):
    config = CONFIG | {"model_type": "mistral", "sliding_window": 16}
    notes = convert(write_hugging_face(tmp_path / "c", config, tensors_of(config)), tmp_path / "out.gguf")
    assert len(notes) == 1 and "16 positions" in notes[0]
    with open_gguf(tmp_path / "out.gguf") as file:
        assert file.get("llama.attention.sliding_window", int) == 16
        assert file.get("general.architecture", str) == "llama"


# The same weights in other forms


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """CONFIG's checkpoint from one safetensors file, converted."""
    folder = tmp_path_factory.mktemp("plain")
    convert(write_hugging_face(folder / "c", CONFIG, tensors_of(CONFIG)), folder / "plain.gguf")
    return folder / "plain.gguf"


@pytest.mark.parametrize("type_name", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize(
    "layout", ["model.safetensors", "3 model.safetensors", "pytorch_model.bin", "2 pytorch_model.bin"]
)
def test_layout_and_number_type(tmp_path, plain, layout, type_name):
    tensors = tensors_of(CONFIG)
    if type_name == "F16":  # the values are bfloat16's: what float16 cannot hold is left to the other types
        tensors = {name: values.astype("<f2").astype("<f4") for name, values in tensors.items()}
        convert(write_hugging_face(tmp_path / "f32", CONFIG, tensors), tmp_path / "plain.gguf")
        plain = tmp_path / "plain.gguf"
    convert(write_hugging_face(tmp_path / "c", CONFIG, tensors, type_name, layout), tmp_path / "out.gguf")
    assert_same_tensors(tmp_path / "out.gguf", plain)


def test_strided_tensors(tmp_path, plain):
    source = write_hugging_face(tmp_path / "c", CONFIG, {})
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(torch_bytes(tensors_of(CONFIG), "BF16", transposed=True))
    convert(source, tmp_path / "out.gguf")
    assert_same_tensors(tmp_path / "out.gguf", plain)


@pytest.mark.parametrize(("n_parts", "embedding_axis"), [(1, 0), (2, 0), (2, 1)])
def test_meta(tmp_path, plain, n_parts, embedding_axis):
    source = write_meta(tmp_path / "c", CONFIG, tensors_of(CONFIG), n_parts, embedding_axis)
    (note,) = convert(source, tmp_path / "out.gguf")
    assert "4096 is taken, as in Llama 2" in note
    assert_same_tensors(tmp_path / "out.gguf", plain)
    np.testing.assert_array_equal(file_logits(tmp_path / "out.gguf"), file_logits(plain))


def test_mistrals_own_form(tmp_path, plain):
    source = write_meta(tmp_path / "c", CONFIG, tensors_of(CONFIG), 1, 0)
    (source / "consolidated.00.pth").unlink()
    tensors = as_meta(CONFIG, tensors_of(CONFIG))
    (source / "consolidated.safetensors").write_bytes(safetensors_bytes(tensors, "BF16"))
    convert(source, tmp_path / "out.gguf", context=32)
    assert_same_tensors(tmp_path / "out.gguf", plain)


@pytest.mark.parametrize(
    ("params", "context", "factor"),
    [
        ({"norm_eps": 1e-6}, 2048, None),
        ({"norm_eps": 1e-5}, 4096, None),
        ({"rope_theta": 1e6}, 16384, None),
        ({"use_scaled_rope": True, "dim": 4096}, 131072, 8.0),
        ({"use_scaled_rope": True, "dim": 2048}, 131072, 32.0),
    ],
)
def test_metas_contexts(tmp_path, params, context, factor):
    params = {"dim": 4096, "n_layers": 1, "n_heads": 32} | params
    write_json(tmp_path / "params.json", params)
    tensors = {"tok_embeddings.weight": np.zeros((32, 8)), "layers.0.feed_forward.w1.weight": np.zeros((24, 8))}
    (tmp_path / "t.safetensors").write_bytes(safetensors_bytes(tensors))
    values, _ = meta._config(meta.Fields(params, tmp_path), read_safetensors(tmp_path / "t.safetensors"))
    assert (values["max_position_embeddings"], values["intermediate_size"]) == (context, 24)
    assert (values.get("rope_scaling") or {}).get("factor") == factor


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_llama2c(tmp_path, version, tied):
    config = CONFIG | {"tie_word_embeddings": tied, "rope_theta": 10000.0}
    data, held = llama2c_bytes(config, tensors_of(config), version)
    (tmp_path / "model.bin").write_bytes(data)
    (tmp_path / "tokenizer.bin").write_bytes(llama2c_tokenizer(config["vocab_size"]))
    assert convert(tmp_path / "model.bin", tmp_path / "out.gguf") == []
    found = all_tensors(tmp_path / "out.gguf")
    names = {"token_embd.weight": "tok_embeddings.weight", "blk.1.attn_q.weight": "layers.1.attention.wq.weight"}
    names |= {"blk.1.ffn_down.weight": "layers.1.feed_forward.w2.weight", "output_norm.weight": "norm.weight"}
    names |= {"blk.0.ffn_norm.weight": "layers.0.ffn_norm.weight"}
    names |= {} if tied else {"output.weight": "output.weight"}
    for name, source in names.items():
        np.testing.assert_array_equal(found[name], held[source], name)
    assert len(found) == len(held)
    if version != 2:
        convert(write_hugging_face(tmp_path / "c", config, tensors_of(config)), tmp_path / "plain.gguf")
        assert_same_tensors(tmp_path / "out.gguf", tmp_path / "plain.gguf")


def test_real_checkpoint_in_shards(shared_data, tmp_path):
    folder = shared_data / "models" / "llama2-gqa"
    convert(folder, tmp_path / "plain.gguf")
    lazy = read_safetensors(folder / "model.safetensors")
    tensors = {name: tensor.rows(0, tensor.n_rows) for name, tensor in lazy.items()}
    source = shutil.copytree(folder, tmp_path / "checkpoint", ignore=shutil.ignore_patterns("*.safetensors"))
    write_shards(source, "pytorch_model.bin", 3, tensors, lambda part: torch_bytes(part, "F16"))
    convert(source, tmp_path / "out.gguf")
    assert_same_tensors(tmp_path / "out.gguf", tmp_path / "plain.gguf")


# What the config decides


def test_a_tied_checkpoint_may_carry_its_output_matrix(tmp_path):
    config = CONFIG | {"tie_word_embeddings": True}
    tensors = tensors_of(CONFIG)  # with lm_head.weight, which transformers would overwrite with the embedding
    convert(write_hugging_face(tmp_path / "c", config, tensors), tmp_path / "out.gguf")
    assert "output.weight" not in all_tensors(tmp_path / "out.gguf")


def test_missing_output_matrix_is_noted(tmp_path):
    tensors = {name: values for name, values in tensors_of(CONFIG).items() if name != "lm_head.weight"}
    (note,) = convert(write_hugging_face(tmp_path / "c", CONFIG, tensors), tmp_path / "out.gguf")
    assert "'lm_head.weight' is missing" in note and "tie_word_embeddings" in note


def test_frequencies_in_the_checkpoint_are_not_needed(tmp_path, plain):
    tensors = tensors_of(CONFIG) | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(6)}
    convert(write_hugging_face(tmp_path / "c", CONFIG, tensors), tmp_path / "out.gguf")
    assert_same_tensors(tmp_path / "out.gguf", plain)


def test_names_and_context(tmp_path):
    source = write_hugging_face(tmp_path / "my model", CONFIG, tensors_of(CONFIG))
    n_values = sum(values.size for values in tensors_of(CONFIG).values())
    convert(source, tmp_path / "a.gguf")
    convert(source, tmp_path / "b.gguf", name="Tiny", context=32)
    with open_gguf(tmp_path / "a.gguf") as file:
        assert file.get("general.name", str) == "my model"
        assert file.get("llama.context_length", int) == 64
        assert file.get("llama.vocab_size", int) == 300
        assert file.get("general.size_label", str) == f"{n_values / 1000:.0f}K"
    with open_gguf(tmp_path / "b.gguf") as file:
        assert file.get("general.name", str) == "Tiny"
        assert file.get("llama.context_length", int) == 32


def test_recommended_sampling(tmp_path):
    source = write_hugging_face(tmp_path / "c", CONFIG, tensors_of(CONFIG))
    write_json(source / "generation_config.json", {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "do_sample": True})
    convert(source, tmp_path / "out.gguf")
    with open_gguf(tmp_path / "out.gguf") as file:
        assert file.get("general.sampling.temp", float) == pytest.approx(0.6)
        assert file.get("general.sampling.top_p", float) == pytest.approx(0.9)
        assert file.get("general.sampling.top_k", int) == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, ["mamba", "llama", "mistral"]),
        ({"model_type": None}, ["model_type is missing"]),
        ({"hidden_act": "gelu"}, ["hidden_act", "gelu", "silu"]),
        ({"hidden_size": "48"}, ["hidden_size", "an integer", "48"]),
        ({"hidden_size": 50}, ["4 heads", "50"]),
        ({"num_hidden_layers": 3}, ["model.layers.2", "missing"]),
        ({"num_hidden_layers": 1}, ["model.layers.1", "no place"]),
        ({"intermediate_size": 96}, ["blk.0.ffn", "(80, 48)", "(96, 48)"]),
        ({"num_attention_heads": 2, "num_key_value_heads": 2}, ["k_proj", "24 rows"]),
        ({"vocab_size": 299}, ["token_embd", "(300, 48)"]),
        ({"max_position_embeddings": 1 << 40}, ["context_length"]),
        ({"rope_scaling": {"rope_type": "spiral"}}, ["spiral", "yarn"]),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, ["rope_scaling.low_freq_factor", "missing"]),
        ({"rope_scaling": LONGROPE | {"long_factor": [1.0]}}, ["rope_scaling.long_factor", "list of 6"]),
        ({"rope_scaling": YARN | {"truncate": False}}, ["truncate"]),
        ({"rope_scaling": {"rope_type": "linear", "factor": -1}}, ["factor", "above 0"]),
        ({"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}, ["rope_parameters", "between layers"]),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, ["bitsandbytes"]),
    ],
)
def test_config_that_cannot_be_converted(tmp_path, change, words):
    source = write_hugging_face(tmp_path / "c", CONFIG | change, tensors_of(CONFIG))
    with pytest.raises(EdgellamaError) as error:
        plan_conversion(source)
    message = str(error.value)
    assert message.startswith(str(source)) and "\n" not in message
    for word in words:
        assert word in message
