"""compressed-tensors (https://github.com/neuralmagic/compressed-tensors), of which FP8 and packed integers are read.

config_groups say how weights were rounded: with a scale for each tensor, channel (row) or block, or for groups of
columns; `ignore` names modules that were left alone.
"""

from collections.abc import Mapping

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor
from . import fp8_weights, pack_quantized
from .unpacked import Unpacked

_FORMATS = ("float-quantized", "naive-quantized")
_GRANULARITIES = {"tensor": "tensor", "channel": "row", "block": "block", "group": "run"}
_BLOCKS = {"block": ("block_structure", [128, 128]), "group": ("group_size", 128)}  # the only sizes that can be carried


def unpack(tensors: Mapping[str, LazyTensor], section: Fields) -> Unpacked:
    """The weights. Raises ConvertError, one sentence, for those in any other form."""
    form = section.get("format", str)
    if form == pack_quantized.FORMAT:
        return pack_quantized.unpack(tensors, section)
    groups = section.inside("config_groups")
    weights = [groups.inside(name).inside("weights") for name in groups.values]
    if form not in _FORMATS or not all(map(_is_fp8, weights)):
        raise ConvertError(
            f"{section.path}: of compressed-tensors only FP8 weights ({_FORMATS[0]}) and packed integers "
            f"({pack_quantized.FORMAT}) can be converted, and these are of the form {form[:40]!r}; use the checkpoint "
            "that it was made from"
        )
    return fp8_weights.join(tensors, section, ".weight_scale", tuple(dict.fromkeys(map(_granularity, weights))))


def _is_fp8(weights: Fields) -> bool:
    is_plain = weights.get("symmetric", bool, True) and not weights.get("dynamic", bool, False)
    return is_plain and weights.get("type", str) == "float" and weights.get("num_bits", int) == 8


def _granularity(weights: Fields) -> str:
    strategy = weights.get("strategy", str)
    field, wanted = _BLOCKS.get(strategy, ("", None))
    if strategy not in _GRANULARITIES or weights.values.get(field) != wanted:
        found = f"{strategy[:40]!r}" + (f" with {field} {str(weights.values.get(field))[:40]}" if wanted else "")
        raise ConvertError(
            f"{weights.path}: {weights.prefix}strategy is {found}, and scales of FP8 weights can be converted for "
            "tensors, channels, blocks of 128 x 128 and groups of 128"
        )
    return _GRANULARITIES[strategy]
