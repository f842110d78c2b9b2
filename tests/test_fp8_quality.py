"""How far FP8 moves a model, next to other types of the same matrices."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import edgellama
from converters.conversion import ConvertOptions, plan_conversion, write_conversion
from edgellama import cli, formats
from edgellama.gguf import open_gguf
from quant.encoders import encode_rows
from quant.perplexity import perplexity, scored_rows
from quant.text_chunks import TextChunks


def divergence(base: np.ndarray, other: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence of the next token's distribution, from logits."""
    logs = []
    for logits in (base, other):
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        logs.append(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1).mean())


@pytest.mark.parametrize("name", ["llama2-gqa", "llama31"])
def test_divergence_lies_between_q6_k_and_q5_k(shared_data, tmp_path, name):
    """With all matrices of a type. The mix of Llama 3.1, which leaves most of them alone, is nearer than Q8_0."""
    base = tmp_path / "f32.gguf"
    write_conversion(plan_conversion(shared_data / "models" / name, ConvertOptions("f32")), base)
    ids = np.random.default_rng(4).integers(3, 250, 200).tolist()
    types = {"Q8_0": (), "Q6_K": ("--pure",), "Q5_K_S": ("--pure",), "FP8": ()}
    logits = {}
    for type_name, options in [*types.items(), ("FP8", ("--pure",))]:
        assert cli.main(["quantize", str(base), str(tmp_path / "q.gguf"), type_name, *options]) == 0
        with edgellama.load(tmp_path / "q.gguf", kv_type="f32") as model:
            logits[type_name, *options] = model.logits(ids)
    with edgellama.load(base, kv_type="f32") as model:
        exact = model.logits(ids)
    found = {key: divergence(exact, values) for key, values in logits.items()}
    assert found["Q8_0",] < found["Q6_K", "--pure"] < found["FP8", "--pure"] < found["Q5_K_S", "--pure"]
    assert found["FP8",] < found["Q8_0",]


def q6_k_of_short_rows(source: Path, target: Path) -> None:
    """The values that Q6_K would have, in an F32 file: rows of 64 and 172 columns are padded to blocks of 256."""
    shutil.copyfile(source, target)
    with open_gguf(source) as file, target.open("r+b") as out:
        for tensor in file.tensors.values():
            if len(tensor.shape) == 2:
                n_columns = tensor.shape[1]
                padded = np.pad(tensor.decode(), [(0, 0), (0, -n_columns % 256)])
                decoded = formats.by_name("q6_k").decode_rows(encode_rows("q6_k", padded), padded.shape[1])
                out.seek(tensor.offset)
                out.write(np.ascontiguousarray(decoded[:, :n_columns], "<f4").tobytes())


def test_perplexity_lies_between_those_of_q8_0_and_q6_k(shared_data, tmp_path):
    """Of the mix of Llama 3.1 on text like what the model was trained on; the F32 and Q8_0 figures are known."""
    source = shared_data / "trained" / "stories260K" / "f32.gguf"
    chunks = TextChunks(np.load(source.parent / "ppl_ids_exl2_tiny.utf8_256.npy").astype(np.int32), bos_id=1)
    q6_k_of_short_rows(source, tmp_path / "Q6_K.gguf")
    for type_name in ("Q8_0", "FP8"):
        assert cli.main(["quantize", str(source), str(tmp_path / f"{type_name}.gguf"), type_name]) == 0
    found = {}
    for type_name in ("Q8_0", "FP8", "Q6_K"):
        with edgellama.load(tmp_path / f"{type_name}.gguf", kv_type="f32") as model:
            found[type_name] = perplexity(scored_rows(model, chunks)).estimate.value
    assert found["Q8_0"] == pytest.approx(7.0706, abs=2e-3)
    assert found["Q8_0"] - 1e-3 < found["FP8"] < found["Q6_K"] < 7.09
