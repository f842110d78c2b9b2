"""What unpacking a quantized checkpoint gives."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..lazy_tensor import LazyTensor


@dataclass(frozen=True)
class Unpacked:
    """Weights by the names of the plain model, and what the user should know."""

    tensors: Mapping[str, LazyTensor]
    notes: tuple[str, ...] = ()
