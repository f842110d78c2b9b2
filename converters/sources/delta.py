"""Weights published as their difference to a base, as Vicuna 0 and 1.1 were: model = base + difference.

Rows that the base lacks (tokens that were added) are taken as they are. Config and tokenizer are the difference's. The
sum is made in float32. FastChat's apply_delta rounds both to float16 and adds in float16: of two float16 numbers, the
sum in float32 rounded to float16 is the same number, for 24 bits are more than twice 11 (Figueroa 1995), and a base of
more bits keeps them.
"""

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgellama.gguf.cursor import quoted

from ..errors import ConvertError
from ..families import find_family
from ..lazy_tensor import LazyTensor
from ..stored_types import F32
from .checkpoint import HF, Checkpoint, OpenBase, SourceOptions, base_model_keys

# Sizes that shapes alone do not tell.
_SAME = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")


def open_checkpoint(path: Path, options: SourceOptions, open_base: OpenBase) -> Checkpoint:
    """The sum. Raises ConvertError where the two do not fit, or where `path` holds a whole model."""
    plain = replace(options, base=None)
    delta, base = open_base(path, plain), open_base(options.base, plain)
    for checkpoint in (delta, base):
        if checkpoint.names != HF:
            raise ConvertError(f"{checkpoint.path}: is no Hugging Face folder, as a difference and its base must be")
    _refuse_other_config(delta, base)
    _refuse_whole_model(delta, base)
    names = _names(delta, base)
    return replace(
        delta,
        tensors={name: _sum(delta.tensors[name], base.tensors[name]) for name in names},
        files=(*delta.files, *base.files),
        metadata=delta.metadata | base_model_keys(base.path),
        sha256=delta.sha256 | base.sha256,
        notes=(*base.notes, *delta.notes),
    )


def _refuse_other_config(delta: Checkpoint, base: Checkpoint) -> None:
    for field in _SAME:
        pair = delta.config.values.get(field), base.config.values.get(field)
        if None not in pair and pair[0] != pair[1]:
            values = " and ".join(str(value)[:40] for value in pair)
            raise ConvertError(
                f"{delta.path}: is the difference to another model than {base.path}: {field} is {values}"
            )


def _names(delta: Checkpoint, base: Checkpoint) -> list[str]:
    """The tensors of both, which are the same and of the same shapes but for rows that only the difference has."""
    _, family = find_family(delta.config)
    of_both = [
        [name for name in checkpoint.tensors if not any(fnmatchcase(name, p) for p in family.UNUSED_SOURCES)]
        for checkpoint in (delta, base)
    ]
    for name in sorted(set(of_both[0]) ^ set(of_both[1])):
        lacking = base if name in delta.tensors else delta
        raise ConvertError(f"{delta.path}: is the difference to another model: {lacking.path} lacks {quoted(name)}")
    for name in of_both[0]:
        shape, other = delta.tensors[name].shape, base.tensors[name].shape
        if shape[1:] != other[1:] or shape[0] < other[0] or (len(shape) == 1 and shape != other):
            raise ConvertError(
                f"{delta.path}: is the difference to another model than {base.path}: {quoted(name)} has shape {shape}, "
                f"and {other} there"
            )
    return of_both[0]


def _refuse_whole_model(delta: Checkpoint, base: Checkpoint) -> None:
    """A model is near its base, a difference near zero; the norms' weights are few, and tell."""
    from_zero = from_base = 0.0
    for name in delta.tensors.keys() & base.tensors.keys():
        shape = delta.tensors[name].shape
        if len(shape) == 1 and shape == base.tensors[name].shape:
            values, others = (checkpoint.tensors[name].rows(0, shape[0]) for checkpoint in (delta, base))
            from_zero += float(np.square(values, dtype=np.float64).sum())
            from_base += float(np.square(values - others, dtype=np.float64).sum())
    if from_base < from_zero:
        raise ConvertError(
            f"{delta.path}: is a whole model and no difference, for its norms are nearer to those of {base.path} than "
            "to zero; convert it without --base"
        )


def _sum(delta: LazyTensor, base: LazyTensor) -> LazyTensor:
    def raw(start: int, stop: int) -> NDArray[np.float32]:
        rows = delta.rows(start, stop)
        known = min(stop, base.n_rows)
        if start < known:
            rows[: known - start] += base.rows(start, known)
        return rows

    return LazyTensor(delta.shape, F32, raw)
