"""`edgellama quantize` as people call it: options, reports, sizes, and one sentence for what does not work."""

import argparse
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from edgellama.commands import UsageError, quantize
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf

TESTS = Path(__file__).resolve().parent


def run(*arguments) -> int:
    parser = argparse.ArgumentParser()
    quantize.add_arguments(parser)
    return quantize.main(parser.parse_args([str(argument) for argument in arguments]))


def types_in(path) -> dict[str, str]:
    with open_gguf(path) as file:
        return {tensor.name: tensor.type_name for tensor in file.tensors.values()}


def test_a_mix(synthetic_model, tmp_path, capsys):
    assert run(synthetic_model("F16"), tmp_path / "out.gguf", "q4_k_m", "--threads", 1) == 0
    types = types_in(tmp_path / "out.gguf")
    assert (types["output.weight"], types["blk.0.attn_q.weight"], types["output_norm.weight"]) == (
        "q6_k",
        "q4_k",
        "f32",
    )
    printed = capsys.readouterr().out
    assert printed.startswith(f"{tmp_path / 'out.gguf'} takes ") and "bits per weight" in printed
    assert printed.count("\n") == 1


def test_options_of_types(synthetic_model, tmp_path, capsys):
    options = ("--tensor-type", "attn_v=q8_0", "--tensor-type", r"blk\.1\.ffn=Q5_K")
    options += ("--output-tensor-type", "Q8_0", "--token-embedding-type", "q3_k", "--pure")
    assert run(synthetic_model("F16"), tmp_path / "out.gguf", "Q4_K", *options) == 0
    types = types_in(tmp_path / "out.gguf")
    assert types["blk.0.attn_v.weight"] == types["output.weight"] == "q8_0"
    assert types["blk.1.ffn_up.weight"] == "q5_k" and types["token_embd.weight"] == "q3_k"
    assert types["blk.0.ffn_down.weight"] == "q4_k"


def test_report_and_json(synthetic_model, tmp_path, capsys):
    assert run(synthetic_model("F16"), tmp_path / "out.gguf", "Q4_0", "--report") == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("blk.0.attn_q.weight"))
    assert "256 x 256" in line and "f16 -> q4_0" in line and "4.500 bits" in line and "rms 0.0" in line
    assert "tensors changed: rms 0.0" in lines[-2]
    assert run(synthetic_model("F16"), tmp_path / "out.gguf", "Q4_0", "--report", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in report["tensors"]}
    assert 0.05 < rows["blk.0.attn_q.weight"]["relative_rms"] < 0.12
    assert rows["blk.0.attn_q.weight"]["bits_per_weight"] == 4.5
    assert "relative_rms" not in rows["output_norm.weight"]
    assert report["bytes"] == sum(row["bytes"] for row in rows.values())


def test_dry_run_writes_nothing(synthetic_model, tmp_path, capsys):
    assert run(synthetic_model("F16"), tmp_path / "out.gguf", "Q4_K_S", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "f16 -> q4_k" in printed and "would take" in printed and "rms" not in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "most_bytes"),
    [("--target-size=300K", 300_000), ("--target-size=0.3MiB", 314_572), ("--target-bpw=5", None)],
)
def test_targets(synthetic_model, tmp_path, option, most_bytes):
    output = tmp_path / "out.gguf"
    source = synthetic_model("F16")
    if most_bytes is not None:  # the vocabulary alone takes some kilobytes; 3 bits per weight are left at least
        most_bytes *= 4
        option = option.replace("300K", "1200K").replace("0.3", "1.2")
    assert run(source, output, option) == 0
    if most_bytes is None:
        with open_gguf(output) as file:
            n_values = sum(int(np.prod(tensor.shape)) for tensor in file.tensors.values())
            n_bytes = sum(tensor.n_bytes for tensor in file.tensors.values())
        assert 4.5 < 8 * n_bytes / n_values <= 5
    else:
        assert 0.85 * most_bytes < output.stat().st_size <= most_bytes


def test_importance_is_used_and_recorded(synthetic_model, tmp_path, capsys):
    with open_gguf(synthetic_model("F16")) as file:
        entries = [(t.name, t.shape[-1]) for t in file.tensors.values() if len(t.shape) == 2]
    data = struct.pack("<i", len(entries))
    for name, size in entries:
        columns = np.linspace(1, 9, size).astype("<f4")
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, size) + columns.tobytes()
    (tmp_path / "i.dat").write_bytes(data)
    output = tmp_path / "out.gguf"
    assert run(synthetic_model("F16"), output, "IQ2_XXS", "--imatrix", tmp_path / "i.dat", "--report") == 0
    assert "weighted 0." in capsys.readouterr().out
    with open_gguf(output) as file:
        assert file.metadata["quantize.imatrix.file"] == "i.dat" and file.metadata["general.file_type"] == 19
        assert file.metadata["quantize.imatrix.entries_count"] == len(entries)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give one of TYPE"),
        (["Q4_0", "--target-bpw", "4"], "give one of TYPE"),
        (["--target-size", "1G", "--target-bpw", "4"], "give one of TYPE"),
        (["--target-bpw", "4", "--pure"], "choose all types"),
        (["Q4_0", "--report", "--dry-run"], "leave out --dry-run"),
    ],
)
def test_options_that_make_no_sense_together(synthetic_model, tmp_path, arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        run(synthetic_model("F16"), tmp_path / "out.gguf", *arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tensor-type", "attn_v"], "is not REGEX=TYPE"),
        (["--tensor-type", "(=q8_0"], "is no regular expression"),
        (["--target-size", "12X"], "is no size like"),
        (["--target-size", "0"], "is no size like"),
        (["--target-bpw", "-1"], "must be above zero"),
        (["--target-bpw", "nan"], "must be above zero"),
        (["--threads", "0"], "must be at least 1"),
    ],
)
def test_arguments_that_are_wrong_alone(synthetic_model, tmp_path, capsys, arguments, sentence):
    with pytest.raises(SystemExit):
        run(synthetic_model("F16"), tmp_path / "out.gguf", *arguments)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["Q4_9"], "'Q4_9' is no type to quantize to"),
        (["Q4_0", "--tensor-type", "attn=q9"], "'q9' is no tensor type that can be written"),
        (["Q4_0", "--output-tensor-type", "foo"], "'foo' is no tensor type that can be written"),
        (["Q4_0", "--imatrix", "missing.dat"], "missing.dat: cannot be read"),
        (["--target-bpw", "0.5"], "the least that can be reached"),
    ],
)
def test_errors_are_one_sentence(synthetic_model, tmp_path, arguments, sentence):
    with pytest.raises(EdgellamaError, match=sentence) as error:
        run(synthetic_model("F16"), tmp_path / "out.gguf", *arguments)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_another_package_of_the_same_name_is_named(synthetic_model, tmp_path, run_python):
    (tmp_path / "quant.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from test_quant_command import run; run(*sys.argv[1:])"
    result = run_python("-c", code, str(synthetic_model("F16")), str(tmp_path / "out.gguf"), "Q4_0", cwd=TESTS)
    assert f"another package 'quant', {tmp_path / 'quant.py'}" in result.stderr
    assert not (tmp_path / "out.gguf").exists()
