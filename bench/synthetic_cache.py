"""Models of real shapes with random weights, made once and kept in the cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from edgellama import system
from edgellama.errors import EdgellamaError

from .synthesize import SHAPES, plan_tensors, synthesize
from .synthetic_blocks import FLOAT_ENCODERS, block_type_names, row_bytes
from .type_mixes import NAMED_MIXES, mix_named

VERSION = 1  # of what synthesize() writes; other models under these names are made again
MARGIN_BYTES = 64 << 20  # vocabulary and header
MEMORY_SHARE = 1.3  # weights are packed into memory of their own; the rest is cache, activations and Python


def cached_model(shape_name: str, type_name: str) -> Path:
    """The path of a model of this shape and type, which is written if it is not there.

    Raises EdgellamaError for a name that is none, and where disk or memory are too small for it.
    """
    n_bytes = model_bytes(shape_name, type_name)
    path = _folder() / f"{shape_name}-{type_name.lower().replace(':', '-')}-{VERSION}.gguf"
    _check_memory(path.name, n_bytes)
    if not path.exists():
        _check_disk(path.parent, n_bytes)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            synthesize(SHAPES[shape_name], type_name, temporary)
            os.replace(temporary, path)
        finally:
            for left in (temporary, temporary.with_name(f"{temporary.name}.partial")):
                left.unlink(missing_ok=True)
    return path


def model_bytes(shape_name: str, type_name: str) -> int:
    """About the size of its file."""
    if shape_name not in SHAPES:
        raise EdgellamaError(f"there is no shape {shape_name!r}; choose one of {', '.join(sorted(SHAPES))}")
    known = {*NAMED_MIXES, *FLOAT_ENCODERS, *block_type_names()}
    if type_name.upper().removeprefix("PURE:") not in known:
        raise EdgellamaError(
            f"there is no type {type_name!r} for random weights; choose one of {', '.join(sorted(known))}"
        )
    plans = plan_tensors(SHAPES[shape_name], mix_named(type_name))
    matrices = (plan.n_rows * row_bytes(plan.type_name, plan.n_columns) for plan in plans if plan.n_rows)
    return sum(matrices) + MARGIN_BYTES


def _folder() -> Path:
    cache = system.cache_folder()
    if cache is None:
        raise EdgellamaError("there is no cache folder to keep a model in; name one with EDGELLAMA_CACHE")
    folder = cache / "models"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _check_memory(name: str, n_bytes: int) -> None:
    needed, available = int(n_bytes * MEMORY_SHARE), system.available_memory_bytes()
    if needed > available:
        raise EdgellamaError(
            f"{name} needs about {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free; take "
            "a smaller shape or type"
        )


def _check_disk(folder: Path, n_bytes: int) -> None:
    free = system.free_disk_bytes(folder)
    if n_bytes > free:
        raise EdgellamaError(f"{folder}: the model needs {n_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
