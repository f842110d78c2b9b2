"""fbgemm_fp8: Meta's Llama 3.1 405B in FP8, and what transformers writes with FbgemmFp8Config. A scale for each row.

https://arxiv.org/abs/2407.21783, section 6.2. `modules_to_not_convert` names what was left alone.
"""

from collections.abc import Mapping

from ..fields import Fields
from ..lazy_tensor import LazyTensor
from . import fp8_weights
from .unpacked import Unpacked


def unpack(tensors: Mapping[str, LazyTensor], section: Fields) -> Unpacked:
    """FP8 weights and all others. Raises ConvertError for scales of another shape."""
    return fp8_weights.join(tensors, section, ".weight_scale", ("row",))
