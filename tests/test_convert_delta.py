"""Weights published as a difference to a base: the sum, what does not fit, and whole models given by mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import CONFIG, llama2c_bytes, llama2c_tokenizer, tensors_of, write_hugging_face
from hugging_face_forward import logits as hugging_face_logits

import edgellama
from converters import writer
from converters.conversion import ConvertOptions, SourceOptions, plan_conversion, write_conversion
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf

IDS = [256, *range(10, 230, 6)]
MATRIX = "model.layers.1.mlp.up_proj.weight"
BASE = tensors_of(CONFIG)


def halves(tensors) -> dict[str, np.ndarray]:
    return {name: values.astype("<f2") for name, values in tensors.items()}


def model(seed: int = 9) -> dict[str, np.ndarray]:
    """What fine-tuning makes of the base: float16, a few percent away."""
    random = np.random.default_rng(seed)
    return {
        name: (values * (1 + 0.05 * random.standard_normal(values.shape))).astype("<f2")
        for name, values in BASE.items()
    }


def difference(tensors=None) -> dict[str, np.ndarray]:
    """As the tool that made Vicuna's does it: in float16."""
    base = halves(BASE)
    return {name: values - base[name] for name, values in (tensors or model()).items()}


@pytest.fixture
def base(tmp_path) -> Path:
    return write_hugging_face(tmp_path / "base", CONFIG, halves(BASE), "F16", "2 pytorch_model.bin")


def write_delta(folder: Path, tensors, **changes) -> Path:
    return write_hugging_face(folder, CONFIG | changes, tensors, "F16")


def convert(delta: Path, base: Path, type_name: str = "f32") -> Path:
    conversion = plan_conversion(delta, ConvertOptions(type_name, source=SourceOptions(base=base)))
    assert conversion.notes == []
    return write_conversion(conversion, delta.parent / "out.gguf")


def test_logits(base, tmp_path):
    out = convert(write_delta(tmp_path / "delta", difference()), base)
    with edgellama.load(out, kv_type="f32") as loaded:
        found = loaded.logits(IDS)
    halved = halves(BASE)
    exact = {name: halved[name].astype(np.float64) + values for name, values in difference().items()}
    np.testing.assert_allclose(found, hugging_face_logits(CONFIG, exact, IDS), atol=1e-3)
    np.testing.assert_allclose(found, hugging_face_logits(CONFIG, model(), IDS), atol=0.05)  # float16's own rounding


def test_bits_are_those_of_a_sum_in_float16(base, tmp_path):
    out = convert(write_delta(tmp_path / "delta", difference()), base, "f16")
    with open_gguf(out) as file:
        found = file.tensors["blk.1.ffn_up.weight"].data.view("<f2").reshape(80, 48)
    np.testing.assert_array_equal(found, halves(BASE)[MATRIX] + difference()[MATRIX])


def test_rounding_twice_is_harmless():
    """float16 sums by way of float32: of all pairs of exponents, with ties and numbers of no leading one among them."""
    random = np.random.default_rng(2)
    a, b = random.integers(0, 1 << 16, (2, 400_000), dtype=np.uint16).view("<f2")
    sound = np.isfinite(a) & np.isfinite(b)
    a, b = a[sound], b[sound]
    b[::2] = np.abs(a[::2]) * np.float16(2.0**-11)
    with np.errstate(over="ignore"):
        wide = (a.astype("<f4") + b.astype("<f4")).astype("<f2")
        exact = (a.astype("<f8") + b.astype("<f8")).astype("<f2")  # 53 bits hold every such sum
        np.testing.assert_array_equal(wide, exact)
        np.testing.assert_array_equal(wide, a + b)


@pytest.mark.parametrize("chunk", [None, 480])
def test_added_tokens(base, tmp_path, monkeypatch, chunk):
    """Their rows are taken as they are, wherever the parts begin."""
    if chunk:
        monkeypatch.setattr(writer, "_CHUNK_VALUES", chunk)
    tensors = difference()
    more = np.arange(11 * 48, dtype="<f2").reshape(11, 48) / 1024
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = np.concatenate([tensors[name], more])
    out = convert(write_delta(tmp_path / "delta", tensors, vocab_size=311), base)
    with open_gguf(out) as file:
        assert file.get("llama.vocab_size", int) == 311
        found = file.tensors["token_embd.weight"].data.view("<f4").reshape(311, 48)
    np.testing.assert_array_equal(found[300:], more)
    name = "model.embed_tokens.weight"
    np.testing.assert_array_equal(found[:300], halves(BASE)[name].astype("<f4") + difference()[name])


def test_a_base_of_another_type(tmp_path):
    """Added in float32, so that a base of more bits keeps them."""
    base = write_hugging_face(tmp_path / "base", CONFIG, BASE, "F32")
    out = convert(write_delta(tmp_path / "delta", difference()), base)
    with open_gguf(out) as file:
        found = file.tensors["blk.1.ffn_up.weight"].data.view("<f4").reshape(80, 48)
    np.testing.assert_array_equal(found, BASE[MATRIX] + difference()[MATRIX])


def test_frequencies_that_one_of_both_holds(base, tmp_path):
    tensors = difference() | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(6)}
    convert(write_delta(tmp_path / "delta", tensors), base)


def test_both_sources_are_recorded(base, tmp_path):
    out = convert(write_delta(tmp_path / "delta", difference()), base)
    shards = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    with open_gguf(out) as file:
        names = [name.decode() for name in file.metadata.raw_strings("edgellama.source.files")]
        assert names == ["config.json", "model.safetensors", "config.json", *shards]
        assert file.get("general.name", str) == "delta" and file.get("general.base_model.0.name", str) == "base"


# Refusals


def assert_refused(delta: Path, base: Path, *words: str, target: Path | None = None) -> None:
    before = {path: path.read_bytes() for path in delta.parent.rglob("*") if path.is_file()}
    with pytest.raises(EdgellamaError) as error:
        conversion = plan_conversion(delta, ConvertOptions(source=SourceOptions(base=base)))
        write_conversion(conversion, target or delta.parent / "out.gguf")
    message = str(error.value)
    assert "\n" not in message and len(message) < 400, message
    for word in words:
        assert word in message, message
    assert {path: path.read_bytes() for path in delta.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("tensors", [halves(BASE), model(), halves(tensors_of(CONFIG, seed=44))])
def test_a_whole_model_is_no_difference(base, tmp_path, tensors):
    """The base itself, what was made of it, and another model of the same shape."""
    assert_refused(write_delta(tmp_path / "delta", tensors), base, "is a whole model", "without --base")


def other(change) -> dict[str, np.ndarray]:
    tensors = difference()
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    ("tensors", "changes", "words"),
    [
        (difference(), {"num_attention_heads": 8}, ["num_attention_heads is 8 and 4"]),
        (difference(), {"num_key_value_heads": 4}, ["num_key_value_heads is 4 and 2"]),
        (difference(), {"model_type": "mistral"}, ["model_type is mistral and llama"]),
        (other(lambda t: t.pop(MATRIX)), {}, ["delta lacks", MATRIX]),
        (other(lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(48)})), {}, ["base lacks", "bias"]),
        (other(lambda t: t.update({MATRIX: t[MATRIX][:, :40]})), {}, [MATRIX, "(80, 40)", "(80, 48)"]),
        (other(lambda t: t.update({"lm_head.weight": t["lm_head.weight"][:299]})), {}, ["lm_head", "(299, 48)"]),
        (other(lambda t: t.update({"model.norm.weight": np.zeros(50)})), {}, ["model.norm.weight", "(50,)", "(48,)"]),
        (other(lambda t: t.update({MATRIX: t[MATRIX] * np.float16(np.nan)})), {}, ["blk.1.ffn_up.weight", "NaN"]),
    ],
)
def test_another_base(base, tmp_path, tensors, changes, words):
    assert_refused(write_delta(tmp_path / "delta", tensors, **changes), base, *words)


def test_sources_that_are_no_folders(base, tmp_path):
    data, _ = llama2c_bytes(CONFIG, BASE, 0)
    (tmp_path / "m.bin").write_bytes(data)
    (tmp_path / "tokenizer.bin").write_bytes(llama2c_tokenizer(300))
    delta = write_delta(tmp_path / "delta", difference())
    assert_refused(delta, tmp_path / "m.bin", "m.bin: is no Hugging Face folder")
    assert_refused(tmp_path / "m.bin", base, "m.bin: is no Hugging Face folder")
    assert_refused(delta, tmp_path / "absent", "absent: no such file")


def test_no_source_is_overwritten(base, tmp_path):
    delta = write_delta(tmp_path / "delta", difference())
    for path in (delta / "model.safetensors", base / "pytorch_model-00002-of-00002.bin", base / "config.json"):
        assert_refused(delta, base, "is the checkpoint itself", target=path)


def test_command(base, tmp_path):
    delta = write_delta(tmp_path / "delta", difference())
    command = [sys.executable, "-m", "edgellama", "convert", str(delta), "-o", str(tmp_path / "out.gguf"), "--json"]
    call = subprocess.run([*command, "--base", str(base)], capture_output=True, text=True, timeout=120, check=False)
    assert (call.returncode, call.stderr) == (0, "")
    rows = json.loads(call.stdout)["tensors"]
    assert len(rows) == 21 and {row["source_type"] for row in rows} == {"f32"}
