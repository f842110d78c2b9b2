"""A GGUF file that is not written yet, in the shape of one that is open.

The runtime's own checks run on it, so that a checkpoint whose file would not load is refused before a byte is written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgellama.errors import ModelError
from edgellama.gguf import GGUFFile


@dataclass(frozen=True)
class PlannedInfo:
    """What the runtime's checks and the recipes ask of a tensor."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    preferred_type: str = ""


class _Metadata(dict):
    """Keys and values as a reader returns them: numbers of a list become a NumPy array, bytes an array of uint8."""

    def __init__(self, values: Mapping[str, Any]):
        super().__init__({key: _as_read(value) for key, value in values.items()})

    def type_of(self, key: str) -> str:
        return type(self[key]).__name__

    def array_length(self, key: str) -> int:
        return len(self[key])

    def raw_strings(self, key: str) -> list[bytes]:
        if not isinstance(self.get(key), list):
            raise ModelError(f"the checkpoint has no list of strings for {key!r}")
        return [text if isinstance(text, bytes) else text.encode() for text in self[key]]


class PlannedFile(GGUFFile):
    """`path` is the checkpoint's, for messages."""

    def __init__(self, path: Path, architecture: str, metadata: Mapping[str, Any], tensors: Iterable[PlannedInfo]):
        self.path = path
        self.metadata = _Metadata({"general.architecture": architecture} | dict(metadata))
        self.tensors = {tensor.name: tensor for tensor in tensors}

    def close(self) -> None:
        """Nothing is open."""


def _as_read(value: Any) -> Any:
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    if isinstance(value, list) and value and isinstance(value[0], int | float):
        return np.array(value, np.int32 if isinstance(value[0], int) else np.float32)
    return value
