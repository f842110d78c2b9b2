"""The .bin files of llama2.c (https://github.com/karpathy/llama2.c, export.py), legacy and versions 1 and 2.

All are a header of a few integers and then the tensors in a fixed order. Layers of one kind lie together, rows follow
each other, RoPE rotates adjacent pairs. Version 2 holds int8 in groups, each with a float32 scale.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellama.gguf.mapped_file import MappedFile

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor, in_file
from ..source_file import open_source
from ..stored_types import F32, I8
from ..vocabulary import read_vocabulary
from .checkpoint import META, Checkpoint, SourceOptions

DESCRIPTION = "a .bin file of llama2.c"

_MAGIC = b"24ka"  # 0x616b3432
_SIZES = struct.Struct("<7i")
_HEADER_BYTES = 256  # of versions 1 and 2
_LARGEST = 1 << 24  # of any size in the header


@dataclass(frozen=True)
class _Header:
    """The seven integers that every version begins with, and what follows from the version."""

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    context: int
    shares_output: bool
    group: int  # 0: float32
    data_start: int

    @property
    def kv_dim(self) -> int:
        return self.dim * self.n_kv_heads // self.n_heads

    @property
    def is_sound(self) -> bool:
        sizes = (self.dim, self.hidden_dim, self.n_layers, self.n_heads, self.n_kv_heads, self.vocab_size, self.context)
        if not all(0 < size < _LARGEST for size in sizes):
            return False
        return self.dim % self.n_heads == 0 and self.n_heads % self.n_kv_heads == 0 and self.group >= 0


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix == ".bin"


def open_checkpoint(path: Path, options: SourceOptions) -> Checkpoint:
    file = open_source(path)
    header, layout = _read_header(file)
    tensors = _place(file, header, layout)
    config = Fields(_config(header), path)
    vocabulary = partial(read_vocabulary, options.tokenizer or path.parent, config, Fields({}, path), None)
    return Checkpoint(path, META, tensors, config, vocabulary, (path,))


def _read_header(file: MappedFile) -> tuple[_Header, Any]:
    """The header, and the function that lists the tensors in this version's order."""
    begin = file.view(0, min(file.size, 64)).tobytes().ljust(64, b"\0")
    if begin[:4] != _MAGIC:
        *sizes, vocab_size, context = _SIZES.unpack_from(begin)
        header = _Header(*sizes, abs(vocab_size), context, vocab_size > 0, 0, _SIZES.size)
        return _checked(file, header), _legacy_order
    version = int.from_bytes(begin[4:8], "little")
    if version not in (1, 2):
        raise ConvertError(f"{file.path}: is a llama2.c file of version {version}, and versions 0 to 2 are read")
    (group,) = struct.unpack_from("<i", begin, 37)
    header = _Header(*_SIZES.unpack_from(begin, 8), begin[36] != 0, group if version == 2 else 0, _HEADER_BYTES)
    return _checked(file, header), _order


def _checked(file: MappedFile, header: _Header) -> _Header:
    if not header.is_sound:
        raise ConvertError(
            f"{file.path}: is no llama2.c file, for its header makes no sense; of a Hugging Face checkpoint, name the "
            "folder"
        )
    return header


def _config(header: _Header) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": header.dim,
        "intermediate_size": header.hidden_dim,
        "num_hidden_layers": header.n_layers,
        "num_attention_heads": header.n_heads,
        "num_key_value_heads": header.n_kv_heads,
        "vocab_size": header.vocab_size,
        "max_position_embeddings": header.context,
        "tie_word_embeddings": header.shares_output,
        "rms_norm_eps": 1e-5,  # these two are constants of llama2.c
        "rope_theta": 10000.0,
    }


# A run of equal tensors in a file: name with {i} for the layer, how many, shape.
_Run = tuple[str, int, tuple[int, ...]]


def _matrices(header: _Header) -> dict[str, _Run]:
    n, dim, kv_dim, hidden = header.n_layers, header.dim, header.kv_dim, header.hidden_dim
    shapes = {
        "attention.wq": (dim, dim),
        "attention.wk": (kv_dim, dim),
        "attention.wv": (kv_dim, dim),
        "attention.wo": (dim, dim),
        "feed_forward.w1": (hidden, dim),
        "feed_forward.w2": (dim, hidden),
        "feed_forward.w3": (hidden, dim),
    }
    return {name: (f"layers.{{i}}.{name}.weight", n, shape) for name, shape in shapes.items()}


def _order(header: _Header) -> Iterator[_Run]:
    """Versions 1 and 2: all norms first."""
    yield "layers.{i}.attention_norm.weight", header.n_layers, (header.dim,)
    yield "layers.{i}.ffn_norm.weight", header.n_layers, (header.dim,)
    yield "norm.weight", 1, (header.dim,)
    yield "tok_embeddings.weight", 1, (header.vocab_size, header.dim)
    yield from _matrices(header).values()
    if not header.shares_output:
        yield "output.weight", 1, (header.vocab_size, header.dim)


def _legacy_order(header: _Header) -> Iterator[_Run]:
    """Version 0: in the order of the forward pass, with two tables of cosines and sines that nothing needs."""
    matrices = _matrices(header)
    yield "tok_embeddings.weight", 1, (header.vocab_size, header.dim)
    yield "layers.{i}.attention_norm.weight", header.n_layers, (header.dim,)
    yield from (matrices[f"attention.{name}"] for name in ("wq", "wk", "wv", "wo"))
    yield "layers.{i}.ffn_norm.weight", header.n_layers, (header.dim,)
    yield from (matrices[f"feed_forward.{name}"] for name in ("w1", "w2", "w3"))
    yield "norm.weight", 1, (header.dim,)
    yield "rope.freqs", 2, (header.context, header.dim // header.n_heads // 2)
    if not header.shares_output:
        yield "output.weight", 1, (header.vocab_size, header.dim)


def _place(file: MappedFile, header: _Header, layout: Any) -> dict[str, LazyTensor]:
    """Every tensor at its place. Raises ConvertError when the file is too short or too long for them."""
    runs = [(name, count, shape, header.group if len(shape) == 2 else 0) for name, count, shape in layout(header)]
    needed = header.data_start + sum(count * _n_bytes(shape, group) for _, count, shape, group in runs)
    if needed != file.size:
        raise ConvertError(f"{file.path}: has {file.size} bytes, and its header makes that {needed}; fetch it again")
    tensors, offset = {}, header.data_start
    for name, count, shape, group in runs:
        for layer in range(count):
            read = partial(_grouped, group=group) if group else partial(in_file, stored=F32)
            tensors[name.format(i=layer)] = read(file, offset, shape)
            offset += _n_bytes(shape, group)
    return tensors


def _n_bytes(shape: tuple[int, ...], group: int) -> int:
    return prod(shape) + prod(shape) // group * 4 if group else prod(shape) * 4


def _grouped(file: MappedFile, offset: int, shape: tuple[int, int], group: int) -> LazyTensor:
    """int8 codes, and after them a scale for each group: value = code * scale. Groups may run on into the next row."""
    n_columns = shape[1]
    codes = in_file(file, offset, shape, I8)
    scales = in_file(file, offset + prod(shape), (prod(shape) // group,), F32)

    def raw(start: int, stop: int) -> NDArray[np.float32]:
        first, last = start * n_columns, stop * n_columns
        group_scales = scales.rows(first // group, -(-last // group))
        skipped = first % group
        value_scales = np.repeat(group_scales, group)[skipped : skipped + last - first]
        return codes.rows(start, stop) * value_scales.reshape(stop - start, n_columns)

    return LazyTensor(shape, F32, raw)
