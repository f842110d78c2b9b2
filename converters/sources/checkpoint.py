"""What every source format becomes: tensors by name, a config in one spelling, and a vocabulary."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..fields import Fields
from ..lazy_tensor import LazyTensor
from ..vocabulary.vocabulary import Vocabulary

HF, META = "hf", "meta"  # whose names the tensors have: fields of edgellama.arch.spec.Source


@dataclass(frozen=True)
class SourceOptions:
    """What the caller knows better than the checkpoint; None for what it does not."""

    tokenizer: Path | None = None  # a folder or file
    pre_tokenizer: str | None = None
    base: Path | None = None  # what an adapter or a difference is applied to


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint. `config` is spelled as in a Hugging Face config.json, whatever the source.

    `vocabulary(n_rows)` reads the tokens for an embedding of so many rows. `files` are what is read besides them, and
    `sha256` what is known of those beforehand. `metadata` is what else the output should carry, `notes` what the user
    should know.
    """

    path: Path
    names: str
    tensors: Mapping[str, LazyTensor]
    config: Fields
    vocabulary: Callable[[int], Vocabulary]
    files: tuple[Path, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    sha256: dict[Path, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


OpenBase = Callable[[Path, SourceOptions], Checkpoint]  # how a source opens the model that it changes


def base_model_keys(base: Path) -> dict[str, Any]:
    """Keys that name the model which another one was made from."""
    return {"general.base_model.count": 1, "general.base_model.0.name": base.resolve().name}
