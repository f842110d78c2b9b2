"""Peak memory and rate of a conversion: a made-up checkpoint of a real shape in shards, converted in a child process.

The bound is twice the largest tensor of the output and 300 MB, whatever the size of the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .memory import run_watched
from .synthesize import SHAPES, Shape
from .synthetic_vocabulary import BUILDERS

ALLOWANCE_BYTES = 300_000_000
SHARD_BYTES = 1 << 30
_TYPE_BYTES = {"BF16": 2, "F16": 2, "I32": 4}
_GROUP = 128  # columns that share a scale in quantized weights

Stored = tuple[str, str, tuple[int, ...]]  # name, type and dimensions of a tensor in a file
# What stands for a matrix (n_out, n_in) in checkpoints of 4 bits, and what their config says.
_PARTS = {
    "gptq": lambda n_out, n_in: {
        "qweight": ("I32", (n_in // 8, n_out)),
        "qzeros": ("I32", (n_in // _GROUP, n_out // 8)),
        "scales": ("F16", (n_in // _GROUP, n_out)),
    },
    "awq": lambda n_out, n_in: {
        "qweight": ("I32", (n_in, n_out // 8)),
        "qzeros": ("I32", (n_in // _GROUP, n_out // 8)),
        "scales": ("F16", (n_in // _GROUP, n_out)),
    },
}

CHILD = """
import json, sys, time
from converters.conversion import ConvertOptions, plan_conversion, write_conversion
from edgellama import system
source, target, type_name, threads = json.loads(sys.argv[1])
begin = time.monotonic()
conversion = plan_conversion(source, ConvertOptions(type_name))
planned, peak = time.monotonic() - begin, system.peak_rss_bytes()
write_conversion(conversion, target, threads)
print(json.dumps({
    "peak_rss_bytes": system.peak_rss_bytes(), "peak_rss_of_planning_bytes": peak, "planning_seconds": planned,
    "seconds": time.monotonic() - begin - planned,
    "largest_tensor_bytes": max(output.n_bytes for output in conversion.outputs),
}))
"""


def tensor_shapes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Hugging Face's names and shapes, in the order of a checkpoint."""
    kv_rows = shape.n_kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.n_vocabulary, shape.d_model)
    for layer in range(shape.n_layers):
        prefix = f"model.layers.{layer}."
        yield f"{prefix}input_layernorm.weight", (shape.d_model,)
        for name, n_rows in (("q", shape.d_model), ("k", kv_rows), ("v", kv_rows), ("o", shape.d_model)):
            yield f"{prefix}self_attn.{name}_proj.weight", (n_rows, shape.d_model)
        for name in ("gate", "up"):
            yield f"{prefix}mlp.{name}_proj.weight", (shape.d_ffn, shape.d_model)
        yield f"{prefix}mlp.down_proj.weight", (shape.d_model, shape.d_ffn)
        yield f"{prefix}post_attention_layernorm.weight", (shape.d_model,)
    yield "model.norm.weight", (shape.d_model,)
    if not shape.tied:
        yield "lm_head.weight", (shape.n_vocabulary, shape.d_model)


def stored_tensors(shape: Shape, weights: str) -> Iterator[Stored]:
    """BF16, and with weights "gptq" or "awq" the matrices of the layers in their parts."""
    for name, dimensions in tensor_shapes(shape):
        if weights in _PARTS and "_proj." in name:
            for part, (type_name, part_dimensions) in _PARTS[weights](*dimensions).items():
                yield name.replace("weight", part), type_name, part_dimensions
        else:
            yield name, "BF16", dimensions


def write_checkpoint(folder: Path, shape: Shape, weights: str = "bf16") -> int:
    """A Hugging Face folder of shards of about a GiB; returns the bytes of all weights."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[list[Stored]] = [[]]
    size = total = 0
    for name, type_name, dimensions in stored_tensors(shape, weights):
        n_bytes = _n_values(dimensions) * _TYPE_BYTES[type_name]
        if size and size + n_bytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append((name, type_name, dimensions))
        size, total = size + n_bytes, total + n_bytes
    weight_map = {}
    for number, tensors in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / name, tensors)
        weight_map |= {tensor: name for tensor, _, _ in tensors}
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    section = {"quant_method": weights, "bits": 4, "group_size": _GROUP}
    _write_json(
        folder / "config.json", _config(shape) | ({"quantization_config": section} if weights in _PARTS else {})
    )
    _write_tokenizer(folder, shape)
    return total


def _n_values(dimensions: tuple[int, ...]) -> int:
    return dimensions[0] * (dimensions[1] if len(dimensions) > 1 else 1)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def _write_shard(path: Path, tensors: list[Stored]) -> None:
    table, position = {}, 0
    for name, type_name, dimensions in tensors:
        end = position + _n_values(dimensions) * _TYPE_BYTES[type_name]
        table[name] = {"dtype": type_name, "shape": dimensions, "data_offsets": [position, end]}
        position = end
    header = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        _write_random(file, position)


def _write_random(file: Any, n_bytes: int) -> None:
    """Normal values of standard deviation 0.02 as BF16, one MiB again and again; other types find numbers too."""
    import numpy as np

    values = np.random.default_rng(0).standard_normal(1 << 19).astype("<f4") * np.float32(0.02)
    block = (values.view("<u4") >> 16).astype("<u2").tobytes()
    for _ in range(n_bytes // len(block)):
        file.write(block)
    file.write(block[: n_bytes % len(block)])


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ffn,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "vocab_size": shape.n_vocabulary,
        "max_position_embeddings": shape.n_context,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_base,
        "tie_word_embeddings": shape.tied,
    }


def _write_tokenizer(folder: Path, shape: Shape) -> None:
    vocabulary = BUILDERS["byte-level"](shape.n_vocabulary, 0)
    model = {"type": "BPE", "merges": vocabulary.merges}
    model["vocab"] = {token: index for index, token in enumerate(vocabulary.tokens)}
    steps = {"pre_tokenizer": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"}}
    _write_json(folder / "tokenizer.json", {"model": model, **steps})


def measure(source: Path, target: Path, type_name: str | None, n_threads: int | None) -> dict[str, Any]:
    """One conversion in a process of its own. Raises RuntimeError if that fails."""
    row, peak = run_watched(CHILD, [str(source), str(target), type_name, n_threads])
    bound = 2 * row["largest_tensor_bytes"] + ALLOWANCE_BYTES
    return row | {"type": type_name, "bound_bytes": bound, "peak_parts_bytes": peak}


def text_of(row: dict[str, Any], n_bytes: int) -> str:
    megabytes = {key: value / 1e6 for key, value in row.items() if key.endswith("bytes") and isinstance(value, int)}
    return (
        f"{row['type'] or 'no type'}: {n_bytes / 1e9:.1f} GB of weights in {row['seconds']:.1f} s "
        f"({n_bytes / 1e6 / row['seconds']:.0f} MB/s) after {row['planning_seconds']:.1f} s of planning; "
        f"peak {megabytes['peak_rss_bytes']:.0f} MB ({megabytes['peak_rss_of_planning_bytes']:.0f} MB of it planning), "
        f"bound {megabytes['bound_bytes']:.0f} MB"
    )


def main(arguments: argparse.Namespace) -> int:
    shape = replace(SHAPES[arguments.shape], n_layers=arguments.layers)
    source, target = arguments.folder / "checkpoint", arguments.folder / "out.gguf"
    n_bytes = write_checkpoint(source, shape, arguments.weights)
    try:
        for type_name in arguments.types or [None]:
            row = measure(source, target, type_name, arguments.threads)
            print(json.dumps(row) if arguments.json else text_of(row, n_bytes), flush=True)
    finally:
        shutil.rmtree(source)
        target.unlink(missing_ok=True)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where the checkpoint and the output are written, and removed again")
    parser.add_argument("--shape", default="llama-3-8b", choices=tuple(SHAPES))
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--weights", choices=("bf16", *_PARTS), default="bf16", help="what the checkpoint holds (bf16)")
    parser.add_argument("--types", nargs="+", metavar="TYPE", help="as --type of convert, which is left out by default")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.convert_memory", description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
