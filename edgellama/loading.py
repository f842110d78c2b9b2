"""load(): the one way to a Model, with every option checked before anything is read."""

import os
from collections.abc import Callable

import numpy as np

from . import bundled
from .cache_layout import KV_TYPES
from .errors import EdgellamaError
from .machines import Request
from .model import Model
from .models import model_path
from .placement import MOST_THREADS

MOST_CONTEXT, MOST_LAYERS = 1 << 24, 10000


def load(
    path: str | os.PathLike[str] | None = None, device: str = "cpu", threads: int | None = None,
    context: int | None = None, kv_type: str = "f16", repack: bool = True, sequences: int = 1,
    gpu_layers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Model:  # fmt: skip
    """Load a GGUF model: a file, or by its name one that `edgellama pull` stored; without either, the small demo.

    `device`: "cpu"; "cuda", one NVIDIA GPU ("cuda:1": the second one); or "auto", a GPU where there is one.
    `gpu_layers`: how many of the last layers it computes, the CPU doing the others (default: as many as fit).
    `threads`: worker threads (default: measured or known best for this device). `context`: positions per sequence
    (default: the model's, at most 4096). `kv_type`: "f16", "q8_0" or "f32". `repack=False` computes from the mapped
    file: slower, but needs no memory for weights. `sequences`: how many sessions may be open besides the model's own;
    the cache has a place for each, and one more. `progress(what, done, total)` is told about long work.

    Raises EdgellamaError for anything that cannot be loaded, MemoryShortageError among them for a model that does not
    fit into memory: before its weights are read, and with what would fit.
    """
    if kv_type not in KV_TYPES:
        raise EdgellamaError(f"kv_type must be one of {', '.join(KV_TYPES)}, and is {kv_type!r}")
    _check_count("threads", threads, MOST_THREADS, may_be_none=True)
    _check_count("context", context, MOST_CONTEXT, may_be_none=True)
    _check_count("sequences", sequences, 256, least=0)
    _check_count("gpu_layers", gpu_layers, MOST_LAYERS, may_be_none=True, least=0)
    chosen = bundled.PATH if path is None else model_path(path)
    request = Request(device, threads, repack, gpu_layers)
    return Model(chosen, request, context, kv_type, sequences + 1, progress)


def _check_count(name: str, value: object, most: int, may_be_none: bool = False, least: int = 1) -> None:
    if value is None and may_be_none:
        return
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= most:
        raise EdgellamaError(f"{name} must be an integer from {least} to {most}, and is {value!r}")
