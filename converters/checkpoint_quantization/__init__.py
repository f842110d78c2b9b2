"""Checkpoints whose weights are quantized: one module for each method, named by `quant_method` in their config.

A module's `unpack(tensors, section)` takes the tensors of the files by name and the section of the config that tells
how they were made, and gives the weights: LazyTensors by the names of the plain model, and notes for the user. What it
cannot read exactly is a ConvertError that names the tensor or the field.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor
from ..source_file import read_json
from . import awq, compressed_tensors, fbgemm_fp8, fp8, gptq
from .unpacked import Unpacked

_METHODS: dict[str, ModuleType] = {
    "awq": awq,
    "compressed-tensors": compressed_tensors,
    "fbgemm_fp8": fbgemm_fp8,
    "fp8": fp8,
    "gptq": gptq,
}
_SECTIONS = ("quantization_config", "compression_config")  # the second: first releases of compressed-tensors

_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}  # beside the config, before it had a section


def unpack_weights(tensors: Mapping[str, LazyTensor], config: Fields) -> Unpacked:
    """The weights of a checkpoint; the same tensors where its config names no method."""
    section = _section(config)
    name = section.get("quant_method", str, None)
    if name is None:
        return Unpacked(tensors)
    if name not in _METHODS:
        raise ConvertError(
            f"{config.path}: its weights are quantized ({name[:40]}), which cannot be converted; use the checkpoint "
            "that it was made from"
        )
    unpacked = _METHODS[name].unpack(tensors, section)
    return unpacked if section.path == config.path else replace(unpacked, files=(section.path,))


def _section(config: Fields) -> Fields:
    """What tells how the weights were quantized; empty where nothing does."""
    section = next((config.inside(name) for name in _SECTIONS if name in config), None)
    if section is not None:
        return section
    for name, method in _FILES.items():
        path = config.path.with_name(name)
        if path.is_file():
            return Fields({"quant_method": method} | read_json(path), path)
    return Fields({}, config.path)
