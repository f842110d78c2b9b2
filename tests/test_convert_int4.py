"""GPTQ and AWQ checkpoints: exact values, the same integers in GGUF's blocks, act-order, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import adjacent, write_hugging_face, write_json
from hugging_face_forward import logits as hugging_face_logits
from int4_files import (
    SIZES,
    Model,
    Quantized,
    awq_gemm_parts,
    awq_gemv_parts,
    change_config,
    gptq_parts,
    groups,
    model,
    pack_quantized_parts,
    packed,
    quantize,
    write_quantized,
)

import edgellama
from converters import writer
from converters.checkpoint_quantization.packed_integers import unpacked
from converters.conversion import ConvertOptions, plan_conversion, write_conversion
from converters.lazy_tensor import of_array, reordered, transposed
from converters.sources.safetensors import read_safetensors
from edgellama import formats
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf

IDS = [256, *range(10, 230, 6)]
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"]}
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
HEAD_DIM = SIZES["hidden_size"] // SIZES["num_attention_heads"]


def in_groups(size: int):
    return lambda module, n_in: groups(n_in, size)


def shuffled(module: str, n_in: int) -> np.ndarray:
    """Groups of 32 scattered over the inputs: q, k and v alike, as they see the same activations."""
    seed = sum(map(ord, module.replace("k_proj", "q_proj").replace("v_proj", "q_proj").replace("up_", "gate_")))
    return np.random.default_rng(seed).permutation(groups(n_in, 32))


def packed_section(bits: int = 4, symmetric: bool = False) -> dict:
    weights = {"num_bits": bits, "type": "int", "strategy": "group", "group_size": 32, "symmetric": symmetric}
    return PACKED | {"config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


def converted(source: Path, type_name: str | None = None) -> tuple[dict[str, tuple[str, np.ndarray]], list[str], int]:
    """(type and float32 values of every tensor, notes, general.file_type)."""
    conversion = plan_conversion(source, ConvertOptions(type_name))
    target = write_conversion(conversion, source.parent / f"{type_name}.gguf")
    with open_gguf(target) as file:
        tensors = {
            name: (t.type_name, formats.by_name(t.type_name).decode_rows(t.data.copy(), t.shape[-1]).reshape(t.shape))
            for name, t in file.tensors.items()
        }
        return tensors, conversion.notes, file.get("general.file_type", int)


def assert_same_values(source: Path, plain: dict[str, np.ndarray]) -> None:
    """As F32, the checkpoint is the one of the dequantised weights, bit for bit."""
    found, _, _ = converted(source, "f32")
    wanted, _, _ = converted(write_hugging_face(source.parent / "plain", SIZES, plain), "f32")
    assert found.keys() == wanted.keys()
    for name, (_, values) in wanted.items():
        np.testing.assert_array_equal(found[name][1], values, name)


# Packing


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_unpacking(bits):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (5, 96))
    words = np.stack([packed(row, bits) for row in values])
    np.testing.assert_array_equal(unpacked(words, bits), values)


def test_columns_and_rows_by_number(tmp_path):
    values = np.arange(12 * 40, dtype=np.float32).reshape(12, 40)
    source = write_hugging_face(tmp_path / "c", SIZES, {"x": values})
    for tensor in (read_safetensors(source / "model.safetensors")["x"], of_array(values)):
        turned = transposed(tensor)
        np.testing.assert_array_equal(turned.rows(3, 31), values.T[3:31])
        order = np.random.default_rng(0).permutation(40)
        np.testing.assert_array_equal(reordered(turned, order).rows(2, 17), values.T[order[2:17]])
        np.testing.assert_array_equal(reordered(tensor, order[order < 12]).rows(1, 9), values[order[order < 12][1:9]])


# Values


@pytest.mark.parametrize("size", [32, 64, -1])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_values(tmp_path, bits, symmetric, size):
    sizes = {-1: in_groups(-1), 32: in_groups(32), 64: lambda module, n_in: groups(n_in, 64)}
    made = model(SIZES, gptq_parts, sizes[size], bits, symmetric)
    section = GPTQ | {"bits": bits, "group_size": size, "sym": symmetric}
    assert_same_values(write_quantized(tmp_path / "c", SIZES, made.stored, section), made.plain)


@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_v2(tmp_path, symmetric):
    made = model(SIZES, lambda weight: gptq_parts(weight, minus=0), in_groups(32), symmetric=symmetric)
    source = write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ | {"checkpoint_format": "gptq_v2"})
    assert_same_values(source, made.plain)


def test_zeros_that_are_not_what_the_config_says(tmp_path):
    """GPTQModel 5 writes zeros of 8 for symmetric weights and calls the format gptq."""
    made = model(SIZES, lambda weight: gptq_parts(weight, minus=0), in_groups(32), symmetric=True)
    source = write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ | {"sym": True, "checkpoint_format": "gptq"})
    assert_same_values(source, made.plain)
    note, _ = plan_conversion(source).notes
    assert "zeros are those of gptq_v2" in note


@pytest.mark.parametrize(("version", "to_parts"), [("gemm", awq_gemm_parts), ("GEMV", awq_gemv_parts)])
@pytest.mark.parametrize("size", [32, -1])
def test_awq_values(tmp_path, version, to_parts, size):
    made = model(SIZES, to_parts, in_groups(size), skipped=("layers.1.self_attn",))
    section = AWQ | {"version": version, "group_size": size, "modules_to_not_convert": ["layers.1.self_attn"]}
    assert_same_values(write_quantized(tmp_path / "c", SIZES, made.stored, section), made.plain)


@pytest.mark.parametrize("size", [32, -1])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pack_quantized_values(tmp_path, bits, symmetric, size):
    made = model(SIZES, lambda w: pack_quantized_parts(w, "<f4", symmetric), in_groups(size), bits, symmetric)
    source = write_quantized(tmp_path / "c", SIZES, made.stored, packed_section(bits, symmetric))
    assert_same_values(source, made.plain)


def test_pack_quantized_of_first_releases(tmp_path):
    """Zeros as int8 around 0, and groups in the order of activations."""

    def to_parts(weight: Quantized) -> dict[str, np.ndarray]:
        zeros = {"weight_zero_point": (weight.zeros - 8).astype("i1"), "weight_g_idx": weight.group_of.astype("<i4")}
        return pack_quantized_parts(weight) | zeros

    made = model(SIZES, to_parts, lambda module, n_in: np.arange(n_in) % 2, skipped=("down_proj",))
    assert_same_values(write_quantized(tmp_path / "c", SIZES, made.stored, packed_section()), made.plain)


def test_files_and_fields_of_early_releases(tmp_path):
    made = model(SIZES, gptq_parts, in_groups(32))
    source = write_quantized(tmp_path / "gptq", SIZES, made.stored, None, "gptq_model-4bit-32g.safetensors")
    write_json(source / "quantize_config.json", {"bits": 4, "group_size": 32, "desc_act": False, "sym": False})
    assert_same_values(source, made.plain)
    names = [path.name for path in plan_conversion(source).checkpoint.files]
    assert names == ["config.json", "quantize_config.json", "gptq_model-4bit-32g.safetensors"]
    made = model(SIZES, awq_gemm_parts, in_groups(32))
    source = write_quantized(tmp_path / "awq", SIZES, made.stored, None)
    write_json(source / "quant_config.json", {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"})
    assert_same_values(source, made.plain)


def test_other_bits_for_single_modules(tmp_path):
    made = model(SIZES, gptq_parts, in_groups(32))
    name = "model.layers.1.mlp.down_proj"
    eight = quantize(made.plain[f"{name}.weight"], 8, groups(96, 96), True)
    stored = made.stored | {f"{name}.{part}": values for part, values in gptq_parts(eight).items()}
    section = GPTQ | {"dynamic": {r"+:.*\.1\..*down.*": {"bits": 8, "group_size": -1}}}
    source = write_quantized(tmp_path / "c", SIZES, stored, section)
    assert_same_values(source, made.plain | {f"{name}.weight": eight.values})


def test_biases_of_zeros_are_dropped(tmp_path):
    made = model(SIZES, gptq_parts, in_groups(32))
    biases = {f"{name}.bias": np.zeros(len(weight.codes), "<f2") for name, weight in made.weights.items()}
    source = write_quantized(tmp_path / "c", SIZES, made.stored | biases, GPTQ)
    assert_same_values(source, made.plain)
    biases["model.layers.0.self_attn.q_proj.bias"][3] = 0.5
    found, _, _ = converted(write_quantized(tmp_path / "c", SIZES, made.stored | biases, GPTQ))
    assert [name for name in found if name.endswith(".bias")] == ["blk.0.attn_q.bias"]


# The same integers in blocks


def stored_codes(path: Path, name: str) -> tuple[str, np.ndarray, np.ndarray, np.ndarray | None]:
    """(type, codes (n_out, n_in), scales and minima (n_out, n_blocks)) read by the bytes of the format."""
    with open_gguf(path) as file:
        tensor = file.tensors[name]
        blocks = tensor.data.copy().reshape(tensor.shape[0], tensor.shape[1] // 32, -1)
    scales = blocks[..., :2].copy().view("<f2")[..., 0]
    if tensor.type_name == "q8_0":
        return tensor.type_name, blocks[..., 2:].copy().view("i1").reshape(tensor.shape), scales, None
    minima = blocks[..., 2:4].copy().view("<f2")[..., 0] if tensor.type_name == "q4_1" else None
    nibbles = blocks[..., -16:]
    return tensor.type_name, np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).reshape(tensor.shape), scales, minima


CASES = {
    "symmetric": (4, True, "q4_0", 2),
    "asymmetric": (4, False, "q4_1", 3),
    "3 bits": (3, False, "q4_0", 2),
    "2 bits": (2, True, "q4_0", 2),
    "8 bits": (8, True, "q8_0", 7),
}


@pytest.mark.parametrize("case", CASES)
def test_codes_stay(tmp_path, case):
    bits, symmetric, type_name, file_type = CASES[case]
    made = model(SIZES, gptq_parts, in_groups(32), bits, symmetric)
    source = write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ | {"bits": bits, "sym": symmetric})
    tensors, notes, found_type = converted(source)
    assert found_type == file_type
    for module, weight in made.weights.items():
        layer, _, short = module.removeprefix("model.layers.").partition(".")
        name = f"blk.{layer}.{NAMES[short]}.weight"
        turn = (lambda rows: adjacent(rows, HEAD_DIM)) if short[-6] in "qk" else lambda rows: rows
        assert_blocks(stored_codes(source.parent / "None.gguf", name), weight, turn, type_name)
    assert {name: kind for name, (kind, _) in tensors.items() if kind not in (type_name, "f32")} == {
        "token_embd.weight": "f16",
        "output.weight": "f16",
    }
    assert len(notes) == 1 and notes[0].startswith(f"14 weights become {type_name} with")
    assert ("no value changes" in notes[0]) == (type_name != "q4_1")


def assert_blocks(found, weight: Quantized, turn, type_name: str) -> None:
    kind, codes, scales, minima = found
    zeros, own = turn(weight.zeros), turn(weight.scales)
    middle = {"q4_0": 8, "q4_1": None, "q8_0": 0}[kind]
    assert kind == type_name
    shift = 0 if middle is None else middle - zeros[:, weight.group_of]
    np.testing.assert_array_equal(codes, turn(weight.codes) + shift)
    np.testing.assert_array_equal(scales, own[:, weight.group_of[::32]])
    if minima is not None:
        exact = -own.astype(np.float32) * zeros
        np.testing.assert_array_equal(minima, exact.astype("<f2")[:, weight.group_of[::32]])


@pytest.mark.parametrize(
    ("to_parts", "section"),
    [
        (awq_gemm_parts, AWQ),
        (awq_gemv_parts, AWQ | {"version": "gemv"}),
        (pack_quantized_parts, packed_section()),
    ],
)
def test_codes_of_others_stay(tmp_path, to_parts, section):
    made = model(SIZES, to_parts, in_groups(32))
    source = write_quantized(tmp_path / "c", SIZES, made.stored, section)
    converted(source)
    weight = made.weights["model.layers.1.mlp.down_proj"]
    assert_blocks(stored_codes(tmp_path / "None.gguf", "blk.1.ffn_down.weight"), weight, lambda rows: rows, "q4_1")


def test_the_error_that_is_told(tmp_path):
    """In steps of the codes: the largest, and the root of the mean square over all codes."""
    made = model(SIZES, gptq_parts, in_groups(32))
    _, notes, _ = converted(write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ))
    errors = []
    for weight in made.weights.values():
        scales = weight.scales.astype(np.float64)
        minima = -scales * weight.zeros
        errors.append((np.abs(minima.astype("<f2") - minima) / scales, weight.group_of))
    largest = 100 * max(error.max() for error, _ in errors)
    total = sum((error**2).sum() for error, _ in errors) / sum(error.size for error, _ in errors)
    assert f"at most {largest:.2g} % of a quantization step, {100 * np.sqrt(total):.2g} % on average" in notes[0]
    assert 0 < largest < 0.5


@pytest.mark.parametrize(
    ("to_parts", "section", "group_of"),
    [
        (gptq_parts, GPTQ, in_groups(32)),
        (gptq_parts, GPTQ | {"desc_act": True}, shuffled),
        (awq_gemm_parts, AWQ, in_groups(32)),
        (awq_gemv_parts, AWQ | {"version": "gemv"}, in_groups(32)),
        (pack_quantized_parts, packed_section(), in_groups(32)),
    ],
)
def test_chunks_do_not_matter(tmp_path, monkeypatch, to_parts, section, group_of):
    """Rows of a chunk begin anywhere in the words that hold several rows."""
    made = model(SIZES, to_parts, group_of)
    source = write_quantized(tmp_path / "c", SIZES, made.stored, section)
    for type_name in (None, "f32"):
        conversion = plan_conversion(source, ConvertOptions(type_name))
        expected = write_conversion(conversion, tmp_path / "one.gguf", threads=1).read_bytes()
        for n_values in (1, 64 * 7, 1000):
            monkeypatch.setattr(writer, "_CHUNK_VALUES", n_values)
            assert write_conversion(conversion, tmp_path / "other.gguf", threads=3).read_bytes() == expected


def test_a_type_that_is_asked_for(tmp_path):
    made = model(SIZES, gptq_parts, in_groups(32), symmetric=True)
    source = write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ | {"sym": True})
    tensors, notes, _ = converted(source, "q4_1")
    assert tensors["token_embd.weight"][0] == "q4_1" and "own integers" in notes[0]
    weight = made.weights["model.layers.0.mlp.up_proj"]
    assert_blocks(stored_codes(tmp_path / "q4_1.gguf", "blk.0.ffn_up.weight"), weight, lambda rows: rows, "q4_1")
    tensors, notes, _ = converted(source, "q8_0")
    assert tensors["blk.0.ffn_up.weight"][0] == "q8_0"
    assert notes == ["14 weights become q8_0 by quantizing the checkpoint's values again, which adds to their error"]
    _, notes, _ = converted(source, "f16")
    assert notes == []


@pytest.mark.parametrize("symmetric", [True, False])
def test_logits(tmp_path, symmetric):
    made = model(SIZES, gptq_parts, in_groups(32), symmetric=symmetric)
    source = write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ | {"sym": symmetric})
    converted(source)
    converted(source, "f32")
    expected = hugging_face_logits(SIZES, made.plain, IDS)
    np.testing.assert_allclose(file_logits(tmp_path / "f32.gguf"), expected, atol=2e-4)
    kept = file_logits(tmp_path / "None.gguf")  # activations of 8 bits are 4 % off in this model
    assert np.sqrt(((kept - expected) ** 2).mean()) < 0.06 * expected.std()


def file_logits(path: Path) -> np.ndarray:
    with edgellama.load(path, kv_type="f32") as loaded:
        return loaded.logits(IDS)


# Groups in the order of activations


@pytest.fixture
def act_order(tmp_path) -> tuple[Path, Model]:
    made = model(SIZES, gptq_parts, shuffled)
    return write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ | {"desc_act": True}), made


def test_act_order_is_the_same_model(tmp_path, act_order):
    source, made = act_order
    converted(source, "f32")
    expected = hugging_face_logits(SIZES, made.plain, IDS)
    np.testing.assert_allclose(file_logits(tmp_path / "f32.gguf"), expected, atol=2e-4)
    converted(source)
    kept = file_logits(tmp_path / "None.gguf")
    assert np.sqrt(((kept - expected) ** 2).mean()) < 0.06 * expected.std()


def test_act_order_of_ffn_down_is_absorbed(tmp_path, act_order):
    source, made = act_order
    tensors, notes, _ = converted(source)
    kinds = {name: kind for name, (kind, _) in tensors.items() if name.startswith("blk.1") and kind != "f32"}
    assert kinds.pop("blk.1.ffn_down.weight") == "q4_1" and set(kinds.values()) == {"q8_0"}
    assert notes[0].startswith("2 weights become q4_1 with the checkpoint's own integers; ")
    assert notes[1].startswith("12 weights become q8_0 by quantizing") and "desc_act" in notes[1]
    weight = made.weights["model.layers.1.mlp.down_proj"]
    order = np.argsort(weight.group_of, kind="stable")
    _, codes, _, _ = stored_codes(tmp_path / "None.gguf", "blk.1.ffn_down.weight")
    np.testing.assert_array_equal(codes, weight.codes[:, order])
    tensors, _, _ = converted(source, "f32")
    np.testing.assert_array_equal(
        tensors["blk.1.ffn_up.weight"][1], made.plain["model.layers.1.mlp.up_proj.weight"][order]
    )


def test_rows_and_biases_follow_the_columns(tmp_path):
    """Gate and up unquantized and with biases: only ffn_down has groups."""
    config = SIZES | {"mlp_bias": True}
    attention = ("q_proj", "k_proj", "v_proj", "o_proj")
    made = model(config, gptq_parts, shuffled, skipped=(*attention, "gate_proj", "up_proj"))
    source = write_quantized(tmp_path / "c", config, made.stored, GPTQ | {"desc_act": True})
    tensors, notes, _ = converted(source)
    assert len(notes) == 1 and tensors["blk.0.ffn_down.weight"][0] == "q4_1"
    converted(source, "f32")
    expected = hugging_face_logits(config, made.plain, IDS)
    np.testing.assert_allclose(file_logits(tmp_path / "f32.gguf"), expected, atol=2e-4)


def test_groups_that_fill_no_blocks(tmp_path):
    made = model(SIZES, gptq_parts, in_groups(16))
    source = write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ | {"group_size": 16})
    assert_same_values(source, made.plain)
    tensors, (note,), _ = converted(source)
    assert tensors["blk.0.ffn_up.weight"][0] == "q8_0" and "fill no blocks of 32" in note


def test_zeros_of_8_bits(tmp_path):
    made = model(SIZES, gptq_parts, in_groups(32), bits=8)
    tensors, (note,), _ = converted(write_quantized(tmp_path / "c", SIZES, made.stored, GPTQ | {"bits": 8}))
    assert tensors["blk.0.ffn_up.weight"][0] == "q8_0" and "other zeros than 128" in note
    plain = made.plain["model.layers.0.mlp.up_proj.weight"]
    assert np.abs(tensors["blk.0.ffn_up.weight"][1] - plain).max() <= np.abs(plain).max() / 250


def test_scales_beyond_float16(tmp_path):
    """bfloat16 or float32 scales are rounded: by nothing here, by 2^-11 of themselves at most."""
    made = model(SIZES, gptq_parts, in_groups(32), symmetric=True)
    name = "model.layers.0.mlp.up_proj"
    scales = made.stored[f"{name}.scales"].astype("<f4") * np.float32(1 + 2**-13)
    section = GPTQ | {"sym": True}
    source = write_quantized(tmp_path / "c", SIZES, made.stored | {f"{name}.scales": scales}, section)
    _, (note,), _ = converted(source)
    assert "at most 0.098 % of a quantization step" in note  # code 0 is 8 steps off zero: 8 * 2^-13
    scales[0, 0] = 1e6
    source = write_quantized(tmp_path / "c", SIZES, made.stored | {f"{name}.scales": scales}, section)
    assert_refused(source, "blk.0.ffn_up.weight", "scale of 1e+06 does not fit float16")


# Refusals


def assert_refused(source: Path, *words: str) -> None:
    target = source.parent / "refused.gguf"
    with pytest.raises(EdgellamaError) as error:
        write_conversion(plan_conversion(source), target)
    message = str(error.value)
    assert message.startswith(str(source)) and "\n" not in message and len(message) < 500, message
    for word in words:
        assert word in message, message
    assert not list(source.parent.glob("refused*"))


UP = "model.layers.1.mlp.up_proj"
SECTIONS = [
    (GPTQ, {"bits": 5}, ["codes of 5 bits", "2, 3, 4, 8"]),
    (GPTQ, {"bits": None}, ["bits is missing"]),
    (GPTQ, {"bits": 8}, ["has shape", "with 8 bits"]),
    (GPTQ, {"group_size": 64}, ["groups of 64"]),
    (GPTQ, {"group_size": "large"}, ["group_size must be an integer"]),
    (GPTQ, {"checkpoint_format": "marlin"}, ["format is 'marlin'"]),
    (GPTQ, {"quant_method": "bitsandbytes"}, ["(bitsandbytes)"]),
    (AWQ, {"bits": 8}, ["8 bits"]),
    (AWQ, {"version": "gemv_fast"}, ["version is 'gemv_fast'", "gemm"]),
    (AWQ, {"group_size": 48}, ["no whole groups of 48"]),
    (AWQ, {"group_size": 64}, ["qzeros", "has shape"]),
]


@pytest.mark.parametrize(("section", "changes", "words"), SECTIONS)
def test_refused_sections(tmp_path, section, changes, words):
    made = model(SIZES, gptq_parts if section is GPTQ else awq_gemm_parts, in_groups(32))
    source = write_quantized(tmp_path / "c", SIZES, made.stored, section)
    change_config(source, **changes)
    assert_refused(source, *words)


def _without(ending):
    return lambda parts: {name: values for name, values in parts.items() if name != ending}


def _changed(ending, change):
    return lambda parts: parts | {ending: change(parts[ending])}


DAMAGES = [
    (_without("qzeros"), ["up_proj.qzeros' is missing"]),
    (_without("scales"), ["up_proj.scales' is missing"]),
    (_changed("qweight", lambda a: a.astype("i2")), ["up_proj.qweight' is i16", "must be i32"]),
    (_changed("qzeros", lambda a: a.astype("f4")), ["up_proj.qzeros' is f32"]),
    (_changed("scales", lambda a: a.astype("i4")), ["up_proj.scales' is i32"]),
    (_changed("scales", lambda a: a[0]), ["up_proj.scales'", "2 dimensions"]),
    (_changed("qweight", lambda a: a[:, :-8]), ["has shape", "must have"]),
    (_changed("qzeros", lambda a: a[:1]), ["up_proj.qzeros' has shape"]),
    (_changed("scales", lambda a: a[:, :-8]), ["has shape"]),
    (_changed("scales", lambda a: a * np.float16("nan")), ["blk.1.ffn_up.weight", "NaN or infinity"]),
    (lambda parts: parts | {"weight": np.zeros((96, 64), "f4")}, ["beside the same weight unquantized"]),
]
GROUPS = [
    (_without("g_idx"), ["up_proj.g_idx' is missing"]),
    (_changed("g_idx", lambda a: a[:-1]), ["up_proj.g_idx' has shape (63,)"]),
    (_changed("g_idx", lambda a: a + 1), ["names group 2, and there are 2"]),
    (_changed("g_idx", lambda a: a - 1), ["names group -1"]),
    (_changed("g_idx", lambda a: a.astype("f4")), ["up_proj.g_idx' is f32"]),
]

PACKED_DAMAGES = [
    (_without("weight_scale"), ["up_proj.weight_scale' is missing"]),
    (_without("weight_shape"), ["up_proj.weight_shape' is missing"]),
    (_without("weight_zero_point"), ["up_proj.weight_zero_point' is missing"]),
    (_changed("weight_shape", lambda a: a + 1), ["says [97, 65]", "96 rows"]),
    (_changed("weight_shape", lambda a: a[:1]), ["up_proj.weight_shape' has shape (1,)"]),
    (_changed("weight_packed", lambda a: a[:, :4]), ["has 4 words for 64 inputs", "names (4,)"]),
    (_changed("weight_packed", lambda a: np.concatenate([a, a], axis=1)), ["has 16 words for 64 inputs"]),
    (_changed("weight_scale", lambda a: a[:-8]), ["up_proj.weight_scale' has shape"]),
    (_changed("weight_scale", lambda a: np.concatenate([a, a[:, :1]], axis=1)), ["3 groups", "do not divide 64"]),
    (_changed("weight_zero_point", lambda a: a[:-1]), ["up_proj.weight_zero_point' has shape"]),
]


@pytest.mark.parametrize(
    ("to_parts", "section", "damage", "words"),
    [(gptq_parts, GPTQ, *case) for case in DAMAGES]
    + [(gptq_parts, GPTQ | {"desc_act": True}, *case) for case in GROUPS]
    + [(awq_gemm_parts, AWQ, *case) for case in DAMAGES]
    + [(pack_quantized_parts, packed_section(), *case) for case in PACKED_DAMAGES],
)
def test_refused_parts(tmp_path, to_parts, section, damage, words):
    made = model(SIZES, to_parts, in_groups(32))
    parts = damage({name.removeprefix(f"{UP}."): a for name, a in made.stored.items() if name.startswith(f"{UP}.")})
    others = {name: values for name, values in made.stored.items() if not name.startswith(f"{UP}.")}
    stored = others | {f"{UP}.{name}": values for name, values in parts.items()}
    assert_refused(write_quantized(tmp_path / "c", SIZES, stored, section), *words)


def test_outputs_that_fill_no_words(tmp_path):
    """60 outputs have zeros of 7.5 words."""
    made = model(SIZES, gptq_parts, in_groups(32))
    cut = {f"{UP}.qweight": 60, f"{UP}.scales": 60, f"{UP}.qzeros": 7}
    stored = made.stored | {name: made.stored[name][:, :n] for name, n in cut.items()}
    assert_refused(write_quantized(tmp_path / "c", SIZES, stored, GPTQ), "up_proj.scales' has 60 outputs")
