"""quant_method "fp8": DeepSeek V3's blocks of 128 x 128 with `weight_scale_inv`, or a `weight_scale` for each tensor.

Despite its name weight_scale_inv is what codes are multiplied with (https://arxiv.org/abs/2412.19437, section 3.3).
"""

from collections.abc import Mapping

from edgellama.fp8 import BLOCK

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor
from . import fp8_weights
from .unpacked import Unpacked


def unpack(tensors: Mapping[str, LazyTensor], section: Fields) -> Unpacked:
    """FP8 weights and all others. Raises ConvertError for blocks of another size and scales of another shape."""
    size = section.get("weight_block_size", list, None)
    if size is None:
        return fp8_weights.join(tensors, section, ".weight_scale", ("tensor",))
    if size != [BLOCK, BLOCK]:
        raise ConvertError(
            f"{section.path}: {section.prefix}weight_block_size is {str(size)[:40]}, and only [{BLOCK}, {BLOCK}] can "
            "be converted"
        )
    return fp8_weights.join(tensors, section, ".weight_scale_inv", ("block",))
