"""FP8 checkpoints: codes and scales bit for bit, logits of the dequantized model, other types, and what is refused."""

import re

import numpy as np
import pytest
from checkpoint_files import adjacent, to_bfloat16, write_hugging_face
from fp8_checkpoints import EVEN_HEADS, ODD_HEADS, Checkpoint, full_scales, make

import edgellama
from converters import fp8_tensor, writer
from converters.conversion import ConvertOptions, plan_conversion, write_conversion
from edgellama import cli, fp8
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf

IDS = [256, *range(10, 230, 9)]
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# (style, sizes, granularity of the checkpoint, type of its scales, granularity of the file)
STYLES = [
    ("compressed-tensors", ODD_HEADS, "row", "BF16", "row"),
    ("compressed-tensors", ODD_HEADS, "tensor", "F32", "tensor"),
    ("compressed-tensors", EVEN_HEADS, "block", "F32", "block"),
    ("compressed-tensors", ODD_HEADS, "run", "F32", "run"),
    ("fbgemm_fp8", ODD_HEADS, "row", "F32", "row"),
    ("fp8", EVEN_HEADS, "block", "F32", "block"),
    ("fp8", ODD_HEADS, "block", "F16", "run"),  # rows of a head change places across blocks
    ("fp8", ODD_HEADS, "tensor", "F32", "tensor"),
]
STRATEGIES = {"row": "channel", "tensor": "tensor", "block": "block", "run": "group"}


def checkpoint(style: str, sizes: dict, granularity: str, scale_type: str = "F32", form: str = "e4m3") -> Checkpoint:
    made = make(style, sizes, granularity, scale_type, form)
    section = made.config["quantization_config"]
    if style == "compressed-tensors":
        weights = section["config_groups"]["group_0"]["weights"]
        weights["strategy"] = STRATEGIES[granularity]
        weights |= {"block": {"block_structure": [128, 128]}, "run": {"group_size": 128}}.get(granularity, {})
    elif granularity == "tensor":
        del section["weight_block_size"]
        made.stored = {name.replace("weight_scale_inv", "weight_scale"): value for name, value in made.stored.items()}
    return made


def convert(source, target, type_name=None, **options):
    conversion = plan_conversion(source, ConvertOptions(type_name, **options))
    write_conversion(conversion, target)
    return conversion


def gguf_name(name: str) -> str:
    layer, module = re.fullmatch(r"model\.layers\.(\d+)\.(.*)\.weight", name).groups()
    return f"blk.{layer}.{GGUF_NAMES[module]}.weight"


def moved(name: str, rows: np.ndarray, config: dict) -> np.ndarray:
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    return adjacent(rows, head_dim) if re.search("[qk]_proj", name) else rows


@pytest.fixture
def float_model(tmp_path):
    """The F32 file of a checkpoint's values."""

    def write(made: Checkpoint):
        config = {name: value for name, value in made.config.items() if name != "quantization_config"}
        folder = write_hugging_face(tmp_path / "floats", config, made.floats)
        convert(folder, tmp_path / "floats.gguf", "f32")
        return tmp_path / "floats.gguf"

    return write


@pytest.mark.parametrize(("style", "sizes", "granularity", "scale_type", "of_file"), STYLES)
def test_bits_and_logits(tmp_path, float_model, style, sizes, granularity, scale_type, of_file):
    made = checkpoint(style, sizes, granularity, scale_type)
    assert convert(made.write(tmp_path / "c"), tmp_path / "out.gguf").notes == []
    with open_gguf(tmp_path / "out.gguf") as file:
        keys = {name: file.metadata[fp8.KEY + name] for name in ("version", "format", "granularity")}
        assert keys == {"version": 1, "format": "e4m3", "granularity": of_file}
        for name, codes in made.codes.items():
            stored = file.tensors[gguf_name(name)]
            found = stored.data.reshape(stored.shape)
            np.testing.assert_array_equal(found, moved(name, codes, sizes), name)
            scales = file.tensors[fp8.scale_name(gguf_name(name))]
            wanted = moved(name, full_scales(made.scales[name], codes.shape), sizes)
            if of_file == "block":
                wanted = wanted[::128, ::128]
            elif of_file == "run":
                wanted = wanted[:, ::128]
            else:
                wanted = wanted[:1, 0] if of_file == "tensor" else wanted[:, 0]
            np.testing.assert_array_equal(scales.data.view("<f4").reshape(scales.shape), wanted, name)
        for name, values in made.floats.items():  # 16-bit matrices stay what they are
            if values.ndim == 2 and name not in made.codes and "layers" not in name:
                short = {"model.embed_tokens": "token_embd", "lm_head": "output"}[name.removesuffix(".weight")]
                stored = file.tensors[f"{short}.weight"]
                assert stored.type_name == "bf16"
                np.testing.assert_array_equal(stored.data.view("<u2").reshape(stored.shape), to_bfloat16(values))
    with edgellama.load(tmp_path / "out.gguf", kv_type="f32") as model:
        found = model.logits(IDS)
    with edgellama.load(float_model(made), kv_type="f32") as model:
        expected = model.logits(IDS)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_e5m2(tmp_path):
    made = checkpoint("fbgemm_fp8", ODD_HEADS, "row", form="e5m2")
    convert(made.write(tmp_path / "c"), tmp_path / "out.gguf")
    name = "model.layers.1.mlp.up_proj.weight"
    with edgellama.load(tmp_path / "out.gguf") as model:
        assert model.file.metadata[fp8.KEY + "format"] == "e5m2"
        np.testing.assert_array_equal(model.file.tensors[gguf_name(name)].decode(), made.floats[name])


@pytest.mark.parametrize("type_name", ["f32", "q8_0", "q4_k_m"])
def test_other_types_are_those_of_the_dequantized_model(tmp_path, type_name):
    made = checkpoint("fp8", EVEN_HEADS, "block")
    plain = {name: value for name, value in made.config.items() if name != "quantization_config"}
    convert(made.write(tmp_path / "c"), tmp_path / "out.gguf", type_name)
    convert(write_hugging_face(tmp_path / "f", plain, made.floats), tmp_path / "plain.gguf", type_name)
    with open_gguf(tmp_path / "out.gguf") as found, open_gguf(tmp_path / "plain.gguf") as expected:
        assert not any(key.startswith(fp8.KEY) for key in found.metadata)
        assert found.tensors.keys() == expected.tensors.keys()
        for name, tensor in expected.tensors.items():
            assert found.tensors[name].type_name == tensor.type_name
            np.testing.assert_array_equal(found.tensors[name].data, tensor.data, name)


def test_scales_of_several_kinds_take_the_finest_form_that_both_have(tmp_path):
    """Two config groups: down_proj with a scale a tensor, the others with a scale a row."""
    made = make("compressed-tensors", ODD_HEADS)
    groups = made.config["quantization_config"]["config_groups"]
    groups["group_1"] = {
        "targets": ["re:.*down_proj"],
        "weights": groups["group_0"]["weights"] | {"strategy": "tensor"},
    }
    for name in list(made.stored):
        if name.endswith("down_proj.weight_scale"):
            made.stored[name] = ("F32", np.array([0.25], "<f4"))
    convert(made.write(tmp_path / "c"), tmp_path / "out.gguf")
    name = "model.layers.0.mlp.down_proj.weight"
    with edgellama.load(tmp_path / "out.gguf") as model:
        assert model.file.metadata[fp8.KEY + "granularity"] == "row"
        found = model.file.tensors[gguf_name(name)].decode()
    np.testing.assert_array_equal(found, fp8.values("e4m3")[made.codes[name]] * np.float32(0.25))


def test_codes_that_need_no_scales(tmp_path):
    """A plain checkpoint in FP8, without a quantization_config: float16 holds every code."""
    made = make("fbgemm_fp8", ODD_HEADS)
    del made.config["quantization_config"]
    made.stored = {name: value for name, value in made.stored.items() if not name.endswith("_scale")}
    convert(made.write(tmp_path / "c"), tmp_path / "out.gguf")
    with open_gguf(tmp_path / "out.gguf") as file:
        tensor = file.tensors[gguf_name("model.layers.1.mlp.up_proj.weight")]
        assert tensor.type_name == "f16" and fp8.KEY + "version" not in file.metadata
        np.testing.assert_array_equal(
            tensor.decode(), fp8.values("e4m3")[made.codes["model.layers.1.mlp.up_proj.weight"]]
        )


def test_scales_of_activations_and_of_a_cache_are_left_out_with_a_note(tmp_path):
    made = make("compressed-tensors", ODD_HEADS)
    made.stored["model.layers.0.mlp.up_proj.input_scale"] = ("BF16", to_bfloat16(np.ones(1)))
    made.stored["model.layers.0.self_attn.k_scale"] = ("F32", np.ones(1, "<f4"))
    notes = convert(made.write(tmp_path / "c"), tmp_path / "out.gguf").notes
    assert len(notes) == 2 and "activations" in notes[0] and "key-value cache" in notes[1]


def test_to_fp8_from_16_bits(tmp_path):
    """The recipe's feed-forward matrices only, with the bits of `edgellama quantize` of the F32 file."""
    sizes = ODD_HEADS | {"num_hidden_layers": 3}
    source = write_hugging_face(tmp_path / "c", sizes, make("fp8", sizes).floats, "F32")
    convert(source, tmp_path / "f32.gguf", "f32")
    for granularity in ("row", "tensor", "block"):
        found, expected = tmp_path / f"{granularity}.gguf", tmp_path / f"quantized-{granularity}.gguf"
        convert(source, found, "fp8", fp8_granularity=granularity)
        command = ["quantize", str(tmp_path / "f32.gguf"), str(expected), "FP8", "--fp8-granularity", granularity]
        assert cli.main(command) == 0
        with open_gguf(found) as ours, open_gguf(expected) as theirs:
            assert ours.metadata[fp8.KEY + "granularity"] == granularity
            assert ours.tensors.keys() == theirs.tensors.keys()
            assert {name for name in ours.tensors if name.endswith(fp8.SCALE_SUFFIX)} == {
                f"blk.1.ffn_{part}{fp8.SCALE_SUFFIX}" for part in ("gate", "up", "down")
            }
            for name, tensor in theirs.tensors.items():
                np.testing.assert_array_equal(ours.tensors[name].data, tensor.data, name)


@pytest.mark.parametrize("type_name", [None, "f16", "fp8"])
@pytest.mark.parametrize("granularity", ["row", "tensor", "block"])
def test_small_chunks_give_the_same_bytes(tmp_path, monkeypatch, type_name, granularity):
    """Chunks of 6 rows, which begin and end inside of heads and blocks, by two threads."""
    sizes = ODD_HEADS | {"num_hidden_layers": 3}
    made = make("fp8", sizes)
    if type_name == "fp8":  # rounded here
        source = write_hugging_face(tmp_path / "c", sizes, made.floats)
    else:
        source = made.write(tmp_path / "c")
    files = []
    for chunk in (None, 1000):
        if chunk:
            monkeypatch.setattr(writer, "_CHUNK_VALUES", chunk)
            monkeypatch.setattr(fp8_tensor, "_PIECE_VALUES", chunk)
        conversion = plan_conversion(source, ConvertOptions(type_name, fp8_granularity=granularity))
        files.append(write_conversion(conversion, tmp_path / f"{chunk}.gguf", threads=2).read_bytes())
    assert files[0] == files[1]


UP = "model.layers.0.mlp.up_proj.weight"
UP_SCALE = "model.layers.0.mlp.up_proj.weight_scale"


def without(name: str):
    return lambda made: made.stored.pop(name)


def stored_as(name: str, dtype: str, values: np.ndarray):
    return lambda made: made.stored.update({name: (dtype, values)})


def with_code(code: int):
    def change(made: Checkpoint) -> None:
        codes = made.codes[UP].copy()
        codes[7, 3] = code
        made.stored[UP] = ("F8_E4M3", codes)

    return change


def with_weights(**fields):
    return lambda made: made.config["quantization_config"]["config_groups"]["group_0"]["weights"].update(fields)


def with_section(**fields):
    return lambda made: made.config["quantization_config"].update(fields)


def scales(*shape: int, value: float = 1.0, name: str = UP_SCALE):
    return stored_as(name, "F32", np.full(shape, value, "<f4"))


DOWN_SCALE = "model.layers.0.mlp.down_proj.weight_scale_inv"
NAN_WEIGHT = "tensor 'blk.0.ffn_up.weight' holds NaN or infinity"
NAN_SCALE = "tensor 'blk.0.ffn_up.edgellama_fp8_scale' holds NaN or infinity"
# name: style, change, part of the sentence
BAD = {
    "no scales": ("compressed-tensors", without(UP_SCALE), f"'{UP}' holds FP8 codes, and its scales '{UP_SCALE}' are"),
    "rows": ("compressed-tensors", scales(199, 1), f"'{UP_SCALE}' holds scales of the shape (199, 1), and (200,) is"),
    "columns": ("fbgemm_fp8", scales(1, 160), "holds scales of the shape (1, 160)"),
    "blocks": ("fp8", scales(3, 2, name=f"{UP_SCALE}_inv"), "shape (3, 2), and (2, 2) is needed"),
    "turned blocks": ("fp8", scales(4, 1, name=DOWN_SCALE), "shape (4, 1), and (2, 2) is needed"),
    "type": ("fbgemm_fp8", stored_as(UP_SCALE, "I32", np.ones((200, 1), "<i4")), "holds scales of the type i32"),
    "NaN code": ("fbgemm_fp8", with_code(0x7F), NAN_WEIGHT),
    "negative NaN": ("fp8", with_code(0xFF), NAN_WEIGHT),
    "NaN scale": ("fbgemm_fp8", scales(200, 1, value=np.nan), NAN_SCALE),
    "infinite scale": ("fbgemm_fp8", scales(200, 1, value=np.inf), NAN_SCALE),
    "block size": ("fp8", with_section(weight_block_size=[64, 64]), "is [64, 64], and only [128, 128]"),
    "int8": ("compressed-tensors", with_section(format="int-quantized"), "only FP8 weights"),
    "int4": ("compressed-tensors", with_weights(num_bits=4, type="int"), "only FP8 weights"),
    "zero points": ("compressed-tensors", with_weights(symmetric=False), "only FP8 weights"),
    "groups": ("compressed-tensors", with_weights(strategy="group", group_size=64), "'group' with group_size 64"),
    "strategy": ("compressed-tensors", with_weights(strategy="tensor_group"), "strategy is 'tensor_group'"),
    "scales alone": ("fbgemm_fp8", stored_as(UP, "BF16", np.zeros((200, 160), "<u2")), f"'{UP_SCALE}' has no place"),
    "three dimensions": ("fbgemm_fp8", stored_as(UP, "F8_E4M3", np.zeros((2, 100, 160), "u1")), "in 3 dimensions"),
    "both formats": ("fbgemm_fp8", stored_as(UP, "F8_E5M2", np.zeros((200, 160), "u1")), "both E4M3 and E5M2"),
    "unknown method": ("fp8", with_section(quant_method="hqq"), "weights are quantized (hqq)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(tmp_path, case):
    style, change, sentence = BAD[case]
    made = make(style, ODD_HEADS)
    change(made)
    source = made.write(tmp_path / "c")
    with pytest.raises(EdgellamaError, match=re.escape(sentence)):
        convert(source, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_the_command(tmp_path, capsys):
    source = make("fp8", EVEN_HEADS).write(tmp_path / "c")
    assert cli.main(["convert", str(source), "-o", str(tmp_path / "out.gguf")]) == 0
    assert cli.main(["convert", str(source), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"blk\.0\.ffn_up\.edgellama_fp8_scale +f32 +2 x 2 .*mlp\.up_proj\.weight", printed)
    assert "edgellama.fp8.granularity = block" in printed
