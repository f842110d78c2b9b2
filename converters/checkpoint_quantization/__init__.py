"""Checkpoints whose weights are quantized: one module for each method, named by `quant_method` in their config.

A module's `unpack(tensors, section)` takes the tensors of the files by name and the section of the config that tells
how they were made, and gives the weights: LazyTensors by the names of the plain model, and notes for the user. What it
cannot read exactly is a ConvertError that names the tensor or the field.
"""

from collections.abc import Mapping
from types import ModuleType

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor
from . import compressed_tensors, fbgemm_fp8, fp8
from .unpacked import Unpacked

_METHODS: dict[str, ModuleType] = {"compressed-tensors": compressed_tensors, "fbgemm_fp8": fbgemm_fp8, "fp8": fp8}
_SECTIONS = ("quantization_config", "compression_config")  # the second: first releases of compressed-tensors


def unpack_weights(tensors: Mapping[str, LazyTensor], config: Fields) -> Unpacked:
    """The weights of a checkpoint; the same tensors where its config names no method."""
    section = next((config.inside(name) for name in _SECTIONS if name in config), Fields({}, config.path))
    name = section.get("quant_method", str, None)
    if name is None:
        return Unpacked(tensors)
    if name not in _METHODS:
        raise ConvertError(
            f"{config.path}: its weights are quantized ({name[:40]}), which cannot be converted; use the checkpoint "
            "that it was made from"
        )
    return _METHODS[name].unpack(tensors, section)
