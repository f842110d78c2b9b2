"""bench synthesize: the types that llama-quantize would choose, blocks that decode to sane weights, files that load."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="the gguf package writes these files")

from bench import synthetic_blocks, synthetic_vocabulary  # noqa: E402 - after the check above
from bench.__main__ import main  # noqa: E402
from bench.synthesize import SHAPES, plan_tensors, rope_factors, synthesize  # noqa: E402
from bench.type_mixes import mix_named, uses_more_bits, with_fallback  # noqa: E402


@pytest.mark.parametrize("type_name", [*synthetic_blocks.FLOAT_ENCODERS, *synthetic_blocks.block_type_names()])
def test_blocks_decode_to_weights_of_the_wanted_size(type_name):
    rng = np.random.default_rng(1)
    rms = 1 / math.sqrt(2048)
    data = synthetic_blocks.random_tensor(type_name, 64, 2048, rms, rng)
    kind = gguf.GGMLQuantizationType[type_name]
    values = gguf.quants.dequantize(data, kind) if type_name != "F32" else data.view(np.float32)
    assert values.shape == (64, 2048) and np.isfinite(values).all()
    tolerance = 1.5 if type_name == "MXFP4" else 1.1  # its scales are powers of two
    assert rms / tolerance < np.sqrt(np.mean(np.square(values))) < rms * tolerance
    assert abs(values.mean()) < 0.1 * rms


def test_blocks_are_filled_beyond_one_chunk(monkeypatch):
    monkeypatch.setattr(synthetic_blocks, "CHUNK_BYTES", 1000)
    for type_name in ("Q4_0", "F16"):
        data = synthetic_blocks.random_tensor(type_name, 32, 256, 0.1, np.random.default_rng(0))
        values = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[type_name])
        row_rms = np.sqrt(np.mean(np.square(values), axis=1))
        assert (row_rms > 0.07).all() and (row_rms < 0.14).all()


def test_row_that_is_no_whole_number_of_blocks():
    with pytest.raises(ValueError, match="576"):
        synthetic_blocks.row_bytes("Q4_K", 576)


def types_of(shape_name: str, type_name: str) -> dict[str, str]:
    return {plan.name: plan.type_name for plan in plan_tensors(SHAPES[shape_name], mix_named(type_name))}


def test_q4_k_m_of_tinyllama():
    types = types_of("tinyllama-1.1b", "q4_k_m")
    assert types["output.weight"] == "Q6_K" and types["token_embd.weight"] == "Q4_K"
    # 22 layers: n/8 = 2 and 7n/8 = 19 by integer division; between them every third
    more = [0, 1, 4, 7, 10, 13, 16, 19, 20, 21]
    assert [i for i in range(22) if types[f"blk.{i}.ffn_down.weight"] == "Q6_K"] == more
    assert [i for i in range(22) if types[f"blk.{i}.attn_v.weight"] == "Q6_K"] == more
    assert {types[f"blk.{i}.{role}.weight"] for i in range(22) for role in ("attn_q", "attn_output", "ffn_up")} == {
        "Q4_K"
    }


def test_uses_more_bits_of_32_layers():
    chosen = [i for i in range(32) if uses_more_bits(i, 32)]
    assert chosen == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]


def test_narrow_rows_fall_back_as_llama_quantize_does():
    types = types_of("smollm-135m", "q4_k_m")
    assert "output.weight" not in types
    assert types["token_embd.weight"] == "Q8_0"  # tied: it is the output, Q6_K, whose rows of 576 fall back
    assert types["blk.0.attn_q.weight"] == "Q5_0"
    assert types["blk.0.ffn_down.weight"] == "Q6_K"  # rows of 1536 fill blocks of 256
    assert with_fallback("IQ2_XS", 576) == "IQ4_NL" and with_fallback("Q4_0", 576) == "Q4_0"


@pytest.mark.parametrize("type_name", ["q4_0", "pure:q2_k", "q8_0", "f16"])
def test_pure_types_are_pure(type_name):
    kinds = {kind for name, kind in types_of("llama-3-8b", type_name).items() if "norm" not in name}
    assert kinds == {type_name.removeprefix("pure:").upper()}


@pytest.mark.parametrize(
    ("shape", "billions"),
    [("tinyllama-1.1b", 1.100), ("llama-3.2-1b", 1.236), ("smollm-135m", 0.1345), ("llama-3-8b", 8.030)],
)
def test_parameter_counts_are_the_real_ones(shape, billions):
    plans = plan_tensors(SHAPES[shape], mix_named("f16"))
    count = sum(max(1, plan.n_rows) * plan.n_columns for plan in plans)
    assert count / 1e9 == pytest.approx(billions, rel=1e-3)


def test_rope_factors_keep_short_waves_and_slow_long_ones():
    factors = rope_factors(SHAPES["llama-3.2-1b"])
    assert factors.dtype == np.float32 and factors.shape == (32,)
    assert factors[0] == 1 and factors[-1] == 32 and (np.diff(factors) >= 0).all()


def test_sentencepiece_like_vocabulary():
    vocabulary = synthetic_vocabulary.sentencepiece_like(2000)
    assert (
        len(set(vocabulary.tokens)) == len(vocabulary.tokens) == len(vocabulary.types) == len(vocabulary.scores) == 2000
    )
    assert vocabulary.tokens[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    rank = {token: index for index, token in enumerate(vocabulary.tokens)}
    singles = {token for token in rank if len(token) == 1}
    for token in vocabulary.tokens[259:-95]:
        parts = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        # merges happen best score first: some split must have parts that exist earlier or are single characters
        assert any(all(p in singles or rank.get(p, 1 << 30) < rank[token] for p in pair) for pair in parts), token


def test_byte_level_vocabulary():
    vocabulary = synthetic_vocabulary.byte_level(3000)
    assert len(set(vocabulary.tokens)) == len(vocabulary.tokens) == len(vocabulary.types) == 3000
    assert len(set(vocabulary.tokens[:256])) == 256 and vocabulary.tokens[0] == "!"
    assert vocabulary.tokens[vocabulary.bos_id] == "<|begin_of_text|>" and vocabulary.bos_id == 3000 - 256
    made = {left + right for left, right in (merge.split(" ") for merge in vocabulary.merges)}
    assert made == set(vocabulary.tokens[256 : vocabulary.bos_id])
    ranks = [vocabulary.tokens.index(merge.replace(" ", "")) for merge in vocabulary.merges]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("type_name", ["q4_0", "q4_k_m", "iq2_xs", "f16"])
def test_file_opens_with_the_plan_it_was_written_from(synthetic_model, type_name):
    from edgellama.config import ModelConfig
    from edgellama.gguf import open_gguf

    with open_gguf(synthetic_model(type_name)) as file:
        plans = list(plan_tensors(SHAPES["tiny"], mix_named(type_name)))
        assert [tensor.name for tensor in file.tensors.values()] == [plan.name for plan in plans]
        assert [tensor.type_name.upper() for tensor in file.tensors.values()] == [plan.type_name for plan in plans]
        norm = file.tensors["output_norm.weight"].data.view(np.float32)
        assert norm.shape == (256,) and (norm == 1).all()
        config = ModelConfig.from_gguf(file)
        assert (config.d_model, config.n_layers, config.n_heads, config.n_kv_heads) == (256, 2, 8, 2)
        assert config.vocab_size == 512


def test_same_seed_same_file(tmp_path):
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = synthesize(SHAPES["tiny"], "q4_0", tmp_path / name, seed)
        digests.append(hashlib.sha256(path.read_bytes().replace(b"seed 2", b"seed 1")).digest())
    assert digests[0] == digests[1] != digests[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_long_rope_and_tied_embedding_are_written(tmp_path):
    shape = replace(
        SHAPES["tiny"], tied=True, rope_factor=32.0, rope_base=500000.0, vocabulary="byte-level", n_vocabulary=600
    )
    reader = gguf.GGUFReader(synthesize(shape, "q8_0", tmp_path / "m.gguf"))
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert "output.weight" not in tensors and tensors["rope_freqs.weight"].data.shape == (16,)
    assert reader.fields["tokenizer.ggml.pre"].contents() == "llama-bpe"


def test_command_line(tmp_path, capsys):
    assert main(["synthesize", "tiny", "q4_0", str(tmp_path / "m.gguf"), "--layers", "1"]) == 0
    assert "m.gguf" in capsys.readouterr().out
    names = [tensor.name for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors]
    assert "blk.0.attn_q.weight" in names and "blk.1.attn_q.weight" not in names
