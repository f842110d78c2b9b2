"""What unpacking a quantized checkpoint gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..lazy_tensor import LazyTensor


@dataclass(frozen=True)
class Unpacked:
    """Weights by the names of the plain model, notes for the user, and files that tell how they are quantized."""

    tensors: Mapping[str, LazyTensor]
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
