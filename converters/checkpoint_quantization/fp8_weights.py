"""What the FP8 methods have in common: each weight of FP8 codes gets its scales, which lie beside it.

Only tensors of an FP8 type are joined with scales: which modules a method left alone is seen by their types.
"""

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgellama import fp8
from edgellama.gguf.cursor import quoted

from ..errors import ConvertError
from ..fields import Fields
from ..fp8_tensor import STORED, Fp8Tensor
from ..lazy_tensor import LazyTensor
from ..stored_types import BF16, F16, F32
from .unpacked import Unpacked

_FORMATS = {stored.name: format_name for format_name, stored in STORED.items()}
_FLOATS = (F32.name, F16.name, BF16.name)
_ACTIVATION_SCALES = (".input_scale", ".input_scale_ub")  # scalars that say how to round activations to FP8 as well
_CACHE_SCALES = (".k_scale", ".v_scale")  # the same for keys and values
_NOTES = {
    _ACTIVATION_SCALES: "scales of FP8 activations are left out: activations stay float32 here",
    _CACHE_SCALES: "scales of an FP8 key-value cache are left out: the cache has other types here",
}


def join(tensors: Mapping[str, LazyTensor], section: Fields, suffix: str, granularities: tuple[str, ...]) -> Unpacked:
    """Weights NAME.weight of FP8 codes with the scales NAME + `suffix`, in the first granularity whose shape fits.

    Raises ConvertError naming the tensor for scales that are missing, or of another shape or type.
    """
    joined: dict[str, LazyTensor] = {}
    used = {name for name in tensors if name.endswith((*_ACTIVATION_SCALES, *_CACHE_SCALES))}
    notes = [note for endings, note in _NOTES.items() if any(name.endswith(endings) for name in used)]
    for name, tensor in tensors.items():
        if tensor.stored.name in _FORMATS:
            scale_name = name.removesuffix(".weight") + suffix
            used.add(scale_name)
            joined[name] = _joined(tensors, name, scale_name, section, granularities)
        else:
            joined[name] = tensor
    return Unpacked({name: tensor for name, tensor in joined.items() if name not in used}, tuple(notes))


def _joined(
    tensors: Mapping[str, LazyTensor], name: str, scale_name: str, section: Fields, granularities: tuple[str, ...]
) -> Fp8Tensor:
    tensor, scales = tensors[name], tensors.get(scale_name)
    codes_are = f"{section.path.parent}: tensor {quoted(name)} holds FP8 codes"
    if len(tensor.shape) != 2:
        raise ConvertError(f"{codes_are} in {len(tensor.shape)} dimensions, and 2 can be converted")
    if scales is None:
        raise ConvertError(f"{codes_are}, and its scales {quoted(scale_name)} are missing")
    scales_are = f"{section.path.parent}: tensor {quoted(scale_name)} holds scales of the"
    if scales.stored.name not in _FLOATS:
        raise ConvertError(f"{scales_are} type {scales.stored.name}, and {', '.join(_FLOATS)} can be converted")
    for granularity in granularities:
        if _has_shape(scales, fp8.scale_shape(granularity, tensor.shape)):
            spread = _spread(scales, granularity, tensor.n_rows)
            return Fp8Tensor(tensor.shape, tensor.stored, tensor.raw, spread, granularity, _FORMATS[tensor.stored.name])
    shapes = " or ".join(str(fp8.scale_shape(granularity, tensor.shape)) for granularity in granularities)
    raise ConvertError(f"{scales_are} shape {scales.shape}, and {shapes} is needed")


def _has_shape(scales: LazyTensor, wanted: tuple[int, ...]) -> bool:
    """Scales of rows may also be (n_rows, 1), and a single one may have any number of dimensions."""
    return scales.shape in (wanted, (*wanted, 1)[:2]) or (wanted == (1,) and prod(scales.shape) == 1)


def _spread(scales: LazyTensor, granularity: str, n_rows: int) -> LazyTensor:
    """(n_rows, 1) or (n_rows, n_runs), read when asked for."""
    width = scales.shape[1] if granularity in ("block", "run") else 1

    def raw(start: int, stop: int) -> NDArray[np.float32]:
        values = scales.rows(0, scales.n_rows).reshape(-1, width)
        return fp8.spread(values, granularity, n_rows)[start:stop]

    return LazyTensor((n_rows, width), F32, raw)
