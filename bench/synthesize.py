"""Writes GGUF models of real shapes and random weights in seconds, so speed can be measured without a download.

Weights have a root mean square of 1/sqrt(inputs) and norms are one: activations keep a sensible size through every
layer, so no kernel meets infinities or denormals that a trained model would not give it.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .synthetic_blocks import FLOAT_ENCODERS, block_type_names, random_tensor, row_bytes
from .synthetic_vocabulary import BUILDERS
from .type_mixes import NAMED_MIXES, Mix, TensorPlace, mix_named, with_fallback

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama model; `rope_factor` above one adds Llama-3.1's table of rotation factors."""

    name: str
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_ffn: int
    n_vocabulary: int
    tied: bool
    n_context: int = 2048
    rope_base: float = 10000.0
    rope_factor: float = 1.0
    norm_epsilon: float = 1e-5
    vocabulary: str = "sentencepiece"

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tinyllama-1.1b", 2048, 22, 32, 4, 5632, 32000, tied=False, n_context=16384),
        Shape("llama-3.2-1b", 2048, 16, 32, 8, 8192, 128256, True, 131072, 500000.0, 32.0, vocabulary="byte-level"),
        Shape("llama-3.2-3b", 3072, 28, 24, 8, 8192, 128256, True, 131072, 500000.0, 32.0, vocabulary="byte-level"),
        Shape("smollm-135m", 576, 30, 9, 3, 1536, 49152, tied=True, n_context=16384),
        Shape("smollm-360m", 960, 32, 15, 5, 2560, 49152, tied=True, n_context=16384),
        Shape("smollm-1.7b", 2048, 24, 32, 32, 8192, 49152, tied=True, n_context=16384),
        Shape("llama-2-7b", 4096, 32, 32, 32, 11008, 32000, tied=False, n_context=4096),
        Shape("llama-3.1-8b", 4096, 32, 32, 8, 14336, 128256, False, 131072, 500000.0, 8.0, vocabulary="byte-level"),
        Shape("llama-3-8b", 4096, 32, 32, 8, 14336, 128256, False, 8192, 500000.0, vocabulary="byte-level"),
        Shape("tiny", 256, 2, 8, 2, 512, 512, tied=False),  # for tests
    )
}


@dataclass(frozen=True)
class TensorPlan:
    name: str
    type_name: str
    n_rows: int
    n_columns: int  # zero rows mean a vector of this length


def rope_factors(shape: Shape, low: float = 1.0, high: float = 4.0, trained_context: int = 8192) -> np.ndarray:
    """Llama-3.1's divisors of the rotation frequencies: long wavelengths are slowed by the full factor."""
    import numpy as np

    exponents = np.arange(0, shape.head_dim, 2, dtype=np.float64) / shape.head_dim
    wavelengths = 2 * math.pi * shape.rope_base**exponents
    smooth = np.clip((trained_context / wavelengths - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1 - smooth) / shape.rope_factor + smooth)).astype(np.float32)


def _layer_matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Role -> (rows, columns), in the order in which a forward pass reads them."""
    d, kv = shape.d_model, shape.n_kv_heads * shape.head_dim
    attention = {"attn_q": (d, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, d)}
    feed_forward = {"ffn_gate": (shape.d_ffn, d), "ffn_up": (shape.d_ffn, d), "ffn_down": (d, shape.d_ffn)}
    return attention | feed_forward


def plan_tensors(shape: Shape, mix: Mix) -> Iterator[TensorPlan]:
    """Every tensor of the model with its type. A tied embedding also serves as output and gets the output's type."""
    group = shape.n_heads // shape.n_kv_heads

    def matrix(name: str, role: str, layer: int, rows: int, columns: int) -> TensorPlan:
        type_name = with_fallback(mix(TensorPlace(role, layer, shape.n_layers, group)), columns)
        return TensorPlan(f"{name}.weight", type_name, rows, columns)

    d = shape.d_model
    yield matrix("token_embd", "output" if shape.tied else "token_embd", 0, shape.n_vocabulary, d)
    if shape.rope_factor > 1:
        yield TensorPlan("rope_freqs.weight", "F32", 0, shape.head_dim // 2)
    for layer in range(shape.n_layers):
        for norm in ("attn_norm", "ffn_norm"):
            yield TensorPlan(f"blk.{layer}.{norm}.weight", "F32", 0, d)
        for role, (rows, columns) in _layer_matrices(shape).items():
            yield matrix(f"blk.{layer}.{role}", role, layer, rows, columns)
    yield TensorPlan("output_norm.weight", "F32", 0, d)
    if not shape.tied:
        yield matrix("output", "output", 0, shape.n_vocabulary, d)


def _add_metadata(writer: GGUFWriter, shape: Shape, type_name: str, seed: int) -> None:
    from gguf import LlamaFileType

    writer.add_name(f"{shape.name} {type_name} (random weights, seed {seed})")
    writer.add_context_length(shape.n_context)
    writer.add_embedding_length(shape.d_model)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.d_ffn)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.n_vocabulary)
    file_type = getattr(LlamaFileType, f"MOSTLY_{type_name.upper()}", None)
    if file_type is not None:
        writer.add_file_type(file_type)


def _add_vocabulary(writer: GGUFWriter, shape: Shape, seed: int) -> None:
    vocabulary = BUILDERS[shape.vocabulary](shape.n_vocabulary, seed)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_bos_token_id(vocabulary.bos_id)
    writer.add_eos_token_id(vocabulary.eos_id)
    writer.add_add_bos_token(True)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.pre is not None:
        writer.add_tokenizer_pre(vocabulary.pre)
    if vocabulary.unknown_id is not None:
        writer.add_unk_token_id(vocabulary.unknown_id)


def _add_plan(writer: GGUFWriter, plan: TensorPlan) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType

    if plan.n_rows == 0:
        writer.add_tensor_info(plan.name, [plan.n_columns], np.dtype(np.float32), plan.n_columns * 4)
        return
    n_bytes = row_bytes(plan.type_name, plan.n_columns)
    raw_type = GGMLQuantizationType[plan.type_name]
    writer.add_tensor_info(plan.name, [plan.n_rows, n_bytes], np.dtype(np.uint8), plan.n_rows * n_bytes, raw_type)


def _data_of(plan: TensorPlan, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    import numpy as np

    if plan.name == "rope_freqs.weight":
        return rope_factors(shape)
    if plan.n_rows == 0:
        return np.ones(plan.n_columns, np.float32)
    return random_tensor(plan.type_name, plan.n_rows, plan.n_columns, 1 / math.sqrt(plan.n_columns), rng)


def _write(writer: GGUFWriter, plans: list[TensorPlan], shape: Shape, seed: int, path: Path) -> None:
    import numpy as np

    rng = np.random.Generator(np.random.SFC64(seed))
    for plan in plans:
        _add_plan(writer, plan)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for plan in plans:  # one tensor in memory at a time
        writer.write_tensor_data(_data_of(plan, shape, rng))
    writer.close()


def synthesize(shape: Shape, type_name: str, path: str | Path, seed: int = 0) -> Path:
    """Write a model of this shape to `path`; the file appears under its name only when it is complete."""
    from gguf import GGUFWriter

    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    plans = list(plan_tensors(shape, mix_named(type_name)))
    writer = GGUFWriter(partial, "llama")
    _add_metadata(writer, shape, type_name, seed)
    _add_vocabulary(writer, shape, seed)
    _write(writer, plans, shape, seed, partial)
    os.replace(partial, path)
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    types = ", ".join([*NAMED_MIXES, *(f for f in FLOAT_ENCODERS), *block_type_names()])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("type", help=f"a mix or a type, any case: {types}; pure:NAME for one type throughout")
    parser.add_argument("output", type=Path, help="the GGUF file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, help="fewer or more layers than the shape has")


def main(arguments: argparse.Namespace) -> int:
    shape = SHAPES[arguments.shape]
    if arguments.layers:
        shape = replace(shape, n_layers=arguments.layers)
    path = synthesize(shape, arguments.type, arguments.output, arguments.seed)
    print(f"{path}: {path.stat().st_size / 1e9:.3f} GB")
    return 0
