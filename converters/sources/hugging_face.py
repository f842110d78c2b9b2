"""Hugging Face folders: config.json, weights in safetensors or PyTorch files, and a tokenizer in one of its forms."""

from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoint_quantization import unpack_weights
from ..fields import Fields
from ..source_file import read_json, read_optional_json
from ..vocabulary import read_vocabulary
from .checkpoint import HF, Checkpoint, SourceOptions
from .weight_files import read_weights

DESCRIPTION = "a Hugging Face folder with config.json and model.safetensors or pytorch_model.bin, or their shards"

# Sampling that the authors recommend: field of generation_config.json -> key and type.
_SAMPLING = {
    "temperature": ("general.sampling.temp", float),
    "top_k": ("general.sampling.top_k", int),
    "top_p": ("general.sampling.top_p", float),
    "min_p": ("general.sampling.min_p", float),
    "repetition_penalty": ("general.sampling.penalty_repeat", float),
}


def recognises(path: Path) -> bool:
    return path.is_dir() and (path / "config.json").is_file()


def open_checkpoint(path: Path, options: SourceOptions) -> Checkpoint:
    config = Fields(read_json(path / "config.json"), path / "config.json")
    generation = Fields(read_optional_json(path / "generation_config.json"), path / "generation_config.json")
    weights = read_weights(path)
    unpacked = unpack_weights(weights.tensors, config)
    return Checkpoint(
        path,
        HF,
        unpacked.tensors,
        config,
        partial(read_vocabulary, options.tokenizer or path, config, generation, options.pre_tokenizer),
        (path / "config.json", *unpacked.files, *weights.files),
        _sampling(generation),
        weights.sha256,
        unpacked.notes,
    )


def _sampling(generation: Fields) -> dict[str, Any]:
    values = {key: generation.get(field, kind, None) for field, (key, kind) in _SAMPLING.items()}
    return {key: value for key, value in values.items() if value is not None and value >= 0}
