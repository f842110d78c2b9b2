"""FP8 as a type of `edgellama quantize`: rounding, scales, the recipe, the way back, and what other programs say."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fp8_files import fp8_model, scales_of

import edgellama
from converters.planned_file import PlannedInfo
from edgellama import fp8
from edgellama.commands import inspect, quantize
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf
from quant import fp8_scales, output_scales
from quant.fp8_rounding import rounded_rows
from quant.recipes import recipe_named
from quant.rows import pieces_of
from quant.tensor_roles import ModelFacts, model_facts
from quant.type_choice import choose_types

GRANULARITIES = ("row", "tensor", "block")
IDS = np.random.default_rng(1).integers(3, 500, 60).tolist()


def run(*arguments) -> int:
    parser = argparse.ArgumentParser()
    quantize.add_arguments(parser)
    return quantize.main(parser.parse_args([str(argument) for argument in arguments]))


def joined(path: Path):
    file = open_gguf(path)
    fp8.join_scales(file)
    return file


def floats_of(path: Path) -> dict[str, np.ndarray]:
    with joined(path) as file:
        return {name: tensor.decode() for name, tensor in file.tensors.items()}


def nearest_codes(numbers: np.ndarray, format_name: str) -> np.ndarray:
    """As one row with the scale 1."""
    return rounded_rows(numbers[None], np.ones((1, 1), np.float32), format_name)[0]


def nearest_by_search(numbers: np.ndarray, format_name: str) -> np.ndarray:
    """Each number's code by comparing it with all values; of two as near, the even code of the number's sign.

    Far beyond the largest value all are as far in float64, so what is larger than a million counts as that.
    """
    values = fp8.values(format_name).astype(np.float64)
    codes = np.flatnonzero(np.isfinite(values))
    found = []
    for number in numbers.astype(np.float64).clip(-1e6, 1e6):
        distance = np.abs(values[codes] - number)
        nearest = codes[distance == distance.min()]
        nearest = nearest[nearest >> 7 == np.signbit(number)]
        found.append(nearest[np.argmin(nearest & 1)])
    return np.array(found, np.uint8)


@pytest.mark.parametrize("format_name", fp8.FORMATS)
def test_rounding_is_to_the_nearest_value(format_name):
    values = fp8.values(format_name)
    codes = np.flatnonzero(np.isfinite(values))
    np.testing.assert_array_equal(nearest_codes(values[codes], format_name), codes)
    finite = np.sort(values[codes])
    halves = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(halves, np.float32(end)) for end in (-1e9, 1e9)]
    random = np.random.default_rng(0)
    spread = random.standard_normal(2000) * 10.0 ** random.uniform(-8, 7, 2000)
    ends = [0.0, -0.0, 448, 448.1, 464, 465, -1e30, 57344, 61440, 3e38, 1e-45, -1e-45]
    numbers = np.concatenate([halves, *beside, spread, ends]).astype(np.float32)
    np.testing.assert_array_equal(nearest_codes(numbers, format_name), nearest_by_search(numbers, format_name))


@pytest.fixture(scope="module")
def files(synthetic_model, tmp_path_factory) -> dict[str, Path]:
    """The synthetic model in all matrices FP8, by granularity; and the F16 it is made of."""
    folder, source = tmp_path_factory.mktemp("fp8"), synthetic_model("f16")
    made = {name: folder / f"{name}.gguf" for name in GRANULARITIES}
    for name, path in made.items():
        assert run(source, path, "fp8", "--pure", "--fp8-granularity", name) == 0
    return made | {"f16": source}


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_codes_and_scales(files, granularity):
    plain = floats_of(files["f16"])
    with joined(files[granularity]) as file:
        assert file.metadata[fp8.KEY + "granularity"] == granularity
        assert file.tensors["token_embd.weight"].type_name == "f16"  # rows of FP8 cannot be looked up
        weights = [tensor for tensor in file.tensors.values() if tensor.type_name == "fp8_e4m3"]
        assert len(weights) == 7 * 2 + 1
        for tensor in weights:
            rows = plain[tensor.name]
            stored, full = scales_of(rows, granularity, 448.0)
            np.testing.assert_array_equal(tensor.scales, fp8.spread(stored, granularity, len(rows)))
            if tensor.name.startswith("blk.0"):
                sample = np.random.default_rng(2).choice(rows.size, 400, replace=False)
                expected = nearest_by_search((rows / full).flat[sample], "e4m3")
                np.testing.assert_array_equal(tensor.data[sample], expected)


def test_the_recipe(synthetic_model, tmp_path):
    """Feed-forward matrices of the inner layers, all else at 16 bits; BF16 stays BF16."""
    for source_type, kept in (("f32", "f16"), ("f16", "f16"), ("bf16", "bf16")):
        with open_gguf(synthetic_model("f32")) as file:
            model = replace(model_facts(file, has_importance=False), n_layers=4)
            tensors = [
                PlannedInfo(name.replace("blk.1", f"blk.{layer}"), tensor.shape, source_type)
                for name, tensor in file.tensors.items()
                for layer in (range(1, 4) if "blk.1" in name else (0,))
                if len(tensor.shape) > 1
            ]
            types = choose_types(tensors, model, recipe_named("FP8"))
        inner = {f"blk.{layer}.ffn_{part}.weight" for layer in (1, 2) for part in ("up", "gate", "down")}
        assert {name for name, type_name in types.items() if type_name == "fp8_e4m3"} == inner
        assert {types[name] for name in types.keys() - inner} == {kept}


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_back_to_other_types(files, tmp_path, granularity):
    """One command, and the bytes that the dequantized model gives."""
    run(files[granularity], tmp_path / "f32.gguf", "F32")
    for name, values in floats_of(tmp_path / "f32.gguf").items():
        np.testing.assert_array_equal(values, floats_of(files[granularity])[name])
    run(files[granularity], tmp_path / "direct.gguf", "Q8_0")
    run(tmp_path / "f32.gguf", tmp_path / "around.gguf", "Q8_0")
    assert (tmp_path / "direct.gguf").read_bytes() == (tmp_path / "around.gguf").read_bytes()
    assert b"edgellama.fp8" not in (tmp_path / "direct.gguf").read_bytes()


def test_rows_that_kernels_cannot_read_in_fours_stay_at_16_bits():
    names = [f"blk.{layer}.ffn_up.weight" for layer in range(4)]
    model = ModelFacts(4, 1, 0, False, False, 4, False)
    for n_columns, wanted in ((64, "fp8_e4m3"), (66, "f16")):
        tensors = [PlannedInfo(name, (32, n_columns), "f16") for name in names]
        assert choose_types(tensors, model, recipe_named("FP8"))["blk.1.ffn_up.weight"] == wanted


def test_what_is_fp8_already_is_copied_bit_for_bit(files, tmp_path):
    """Scales of rows join those of blocks: runs say both."""
    run(files["block"], tmp_path / "same.gguf", "fp8", "--pure")
    assert (tmp_path / "same.gguf").read_bytes() == files["block"].read_bytes()
    run(files["block"], tmp_path / "some.gguf", "F16", "--tensor-type", "ffn_=fp8")
    run(tmp_path / "some.gguf", tmp_path / "both.gguf", "F16", "--tensor-type", "ffn_|attn_=FP8")
    with joined(tmp_path / "both.gguf") as file:
        assert file.metadata[fp8.KEY + "granularity"] == "run"
    found, blocks = floats_of(tmp_path / "both.gguf"), floats_of(files["block"])
    np.testing.assert_array_equal(found["blk.0.ffn_up.weight"], blocks["blk.0.ffn_up.weight"])
    with edgellama.load(tmp_path / "both.gguf") as model:
        assert np.isfinite(model.logits(IDS)).all()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_small_pieces_give_the_same_bytes(files, tmp_path, monkeypatch, granularity):
    """Pieces of 11 rows, or of a block's 128, by two threads."""
    monkeypatch.setattr(output_scales, "pieces_of", partial(pieces_of, most_values=3000))
    options = ("--pure", "--fp8-granularity", granularity, "--threads", 2)
    run(files["f16"], tmp_path / "out.gguf", "fp8", *options)
    assert (tmp_path / "out.gguf").read_bytes() == files[granularity].read_bytes()


def test_report(files, tmp_path, capsys):
    assert run(files["f16"], tmp_path / "out.gguf", "F16", "--tensor-type", "ffn_up=fp8", "--report", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["tensors"]}
    row, exact = rows["blk.0.ffn_up.weight"], floats_of(files["f16"])["blk.0.ffn_up.weight"]
    error = floats_of(tmp_path / "out.gguf")["blk.0.ffn_up.weight"] - exact
    assert row["type"] == "fp8_e4m3" and row["bytes"] == exact.size + 4 * len(exact)
    assert row["relative_rms"] == pytest.approx(np.sqrt((error**2).sum() / (exact**2).sum()), rel=1e-4)
    assert row["largest_error"] == pytest.approx(np.abs(error).max(), rel=1e-4)


def test_inspect(files, capsys):
    parser = argparse.ArgumentParser()
    inspect.add_arguments(parser)
    assert inspect.main(parser.parse_args([str(files["row"]), "--tensors"])) == 0
    printed = capsys.readouterr().out
    assert "fp8_e4m3" in printed and "edgellama_fp8_scale" not in printed and " i8 " not in printed


def test_sizes(files, tmp_path):
    """A budget may be spent on a model that is FP8: it is float to start from."""
    assert run(files["row"], tmp_path / "out.gguf", "--target-bpw", "5") == 0
    with open_gguf(tmp_path / "out.gguf") as file:
        assert fp8.KEY + "version" not in file.metadata
        assert not any(tensor.type_name == "i8" for tensor in file.tensors.values())


def test_two_formats_are_refused(files, tmp_path):
    options = ("--tensor-type", "ffn_up=fp8_e5m2", "--tensor-type", "ffn_down=fp8")
    with pytest.raises(EdgellamaError, match="a file holds FP8 of E4M3 or of E5M2"):
        run(files["f16"], tmp_path / "out.gguf", "F16", *options)


def test_damaged_codes_are_refused(files, tmp_path):
    with open_gguf(files["row"]) as file:
        offset = file.tensors["blk.0.ffn_up.weight"].offset
    data = bytearray(files["row"].read_bytes())
    data[offset + 5] = 0x7F
    (tmp_path / "damaged.gguf").write_bytes(data)
    for type_name in ("Q8_0", "FP8"):
        with pytest.raises(EdgellamaError, match=r"tensor 'blk\.0\.ffn_up\.weight' holds"):
            run(tmp_path / "damaged.gguf", tmp_path / "out.gguf", type_name, "--pure")
        assert not (tmp_path / "out.gguf").exists()


def test_nan_in_a_source_is_refused(files, tmp_path):
    with open_gguf(files["f16"]) as file:
        offset = file.tensors["blk.0.ffn_up.weight"].offset
    data = bytearray(files["f16"].read_bytes())
    data[offset : offset + 2] = b"\0\x7e"
    (tmp_path / "damaged.gguf").write_bytes(data)
    for granularity in GRANULARITIES:
        with pytest.raises(EdgellamaError, match=r"tensor 'blk\.0\.ffn_up\.weight' holds NaN"):
            run(tmp_path / "damaged.gguf", tmp_path / "out.gguf", "FP8", "--pure", "--fp8-granularity", granularity)


@pytest.mark.parametrize(
    ("granularities", "common"),
    [
        ({"row"}, "row"),
        ({"tensor", "row"}, "row"),
        ({"tensor", "block"}, "block"),
        ({"row", "block"}, "run"),
        ({"tensor", "run"}, "run"),
    ],
)
def test_common_granularity(granularities, common):
    assert fp8_scales.common_granularity(granularities) == common


def test_scales_of_all_kinds_of_rows():
    """Zeros, the smallest and the largest numbers: a scale is never zero, and what it gives is finite."""
    rows = np.zeros((4, 130), np.float32)
    rows[1, 3], rows[2, 129], rows[3, 0] = 1e-44, 3e38, -1.0
    for granularity in GRANULARITIES:
        scales = fp8_scales.of_rows(rows, granularity, "e4m3")
        codes = rounded_rows(rows, scales, "e4m3")
        decoded = fp8.values("e4m3")[codes] * fp8.widened(scales, 130)
        assert np.isfinite(decoded).all() and (scales > 0).all()
        assert decoded[2, 129] == pytest.approx(3e38, rel=0.04)


# What other programs say


@pytest.mark.parametrize("granularity", [*GRANULARITIES, "run"])
def test_llama_cpp_refuses_the_file(files, tmp_path, granularity):
    """It counts tensors that it does not expect, says so, and ends."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python, the extra `bench`, is not installed")
    path = files.get(granularity) or fp8_model(files["f16"], tmp_path / "run.gguf", "e4m3", "run")
    code = "import sys, llama_cpp; llama_cpp.Llama(sys.argv[1], verbose=True)"
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode != 0
    assert "wrong number of tensors" in found.stderr
