"""Meta's own checkpoints: params.json and consolidated.NN.pth, one file for each GPU that the model was split over.

Matrices whose outputs were split are joined along their rows, those whose inputs were split along their columns; norms
are the same in every file. Mistral AI publishes its models in the same form, as one consolidated.safetensors.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgellama.gguf.cursor import quoted

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor, joined
from ..source_file import read_json
from ..vocabulary import read_vocabulary
from .checkpoint import META, Checkpoint, SourceOptions
from .safetensors import read_safetensors
from .torch_zip import read_torch

DESCRIPTION = "a folder of Meta's with params.json and consolidated.*.pth"

_READERS = {".pth": read_torch, ".safetensors": read_safetensors}
_SPLIT_AXES = {"wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0, "output": 0, "wo": 1, "w2": 1}
# Field of config.json -> field of params.json.
_FIELDS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "head_dim": "head_dim",
    "rms_norm_eps": "norm_eps",
    "rope_theta": "rope_theta",
    "sliding_window": "sliding_window",
}


def recognises(path: Path) -> bool:
    return path.is_dir() and (path / "params.json").is_file()


def open_checkpoint(path: Path, options: SourceOptions) -> Checkpoint:
    params = Fields(read_json(path / "params.json"), path / "params.json")
    files = _weight_files(path)
    tensors = _join([_READERS[file.suffix](file) for file in files], params)
    values, notes = _config(params, tensors)
    config = Fields(values, path / "params.json")
    generation = Fields({}, path / "params.json")
    vocabulary = partial(read_vocabulary, options.tokenizer or path, config, generation, options.pre_tokenizer)
    return Checkpoint(path, META, tensors, config, vocabulary, (path / "params.json", *files), notes=notes)


def _weight_files(path: Path) -> list[Path]:
    """consolidated.00.pth and on, none missing, or the one consolidated.safetensors."""
    whole = path / "consolidated.safetensors"
    if whole.is_file():
        return [whole]
    files = sorted(path.glob("consolidated.*.pth"))
    for number in range(max(1, len(files))):
        name = f"consolidated.{number:02}.pth"
        if not (path / name).is_file():
            raise ConvertError(f"{path}: has params.json and no {name}; fetch the checkpoint again")
    return files


def _join(parts: list[dict[str, LazyTensor]], params: Fields) -> dict[str, LazyTensor]:
    names = parts[0].keys()
    for part in parts:
        if part.keys() != names:
            other = quoted(min(part.keys() ^ names))
            raise ConvertError(f"{params.path.parent}: tensor {other} is missing in some of the {len(parts)} files")
    return {name: _join_one(name, [part[name] for part in parts], params) for name in names}


def _join_one(name: str, parts: list[LazyTensor], params: Fields) -> LazyTensor:
    axis = _split_axis(name, parts[0], params.get("dim", int))
    if len(parts) == 1 or axis is None:
        return parts[0]
    rest = {part.shape[:axis] + part.shape[axis + 1 :] for part in parts}
    if len(rest) != 1 or len({part.stored for part in parts}) != 1:
        raise ConvertError(f"{params.path.parent}: the parts of tensor {quoted(name)} do not fit together")
    return joined(parts, axis)


def _split_axis(name: str, part: LazyTensor, d_model: int) -> int | None:
    """None for a tensor that is whole in every file."""
    module = name.split(".")[-2] if "." in name else name
    if len(part.shape) != 2:
        return None
    if module == "tok_embeddings":  # Llama 1 and 2 split its columns, Llama 3 its rows
        return 0 if part.shape[1] == d_model else 1
    return _SPLIT_AXES.get(module)


def _config(params: Fields, tensors: Mapping[str, LazyTensor]) -> tuple[dict[str, Any], tuple[str, ...]]:
    values = {name: params.values[field] for name, field in _FIELDS.items() if field in params}
    values |= {"model_type": "llama", "vocab_size": _rows(tensors, "tok_embeddings.weight", params)}
    values["tie_word_embeddings"] = "output.weight" not in tensors
    values["intermediate_size"] = _rows(tensors, "layers.0.feed_forward.w1.weight", params)
    if params.get("use_scaled_rope", bool, False):
        values["rope_scaling"] = _rope_scaling(params)
    length, reason = _context_length(params, values)
    values["max_position_embeddings"] = length
    return values, (f"params.json does not say how long the context is; {length} is taken, as in {reason}",)


def _rows(tensors: Mapping[str, LazyTensor], name: str, params: Fields) -> int:
    if name not in tensors:
        raise ConvertError(f"{params.path.parent}: tensor {name!r} is missing")
    return tensors[name].n_rows


def _rope_scaling(params: Fields) -> dict[str, Any]:
    """Llama 3.1's, whose numbers stand in Meta's code; the small models of Llama 3.2 stretch further."""
    small = params.get("dim", int) <= 3072
    return {
        "rope_type": "llama3",
        "factor": params.get(("rope_scaling_factor", "rope_scale_factor"), float, 32.0 if small else 8.0),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def _context_length(params: Fields, values: Mapping[str, Any]) -> tuple[int, str]:
    """What Meta trained with: the published models differ in these fields."""
    if "rope_scaling" in values:
        return 131072, "Llama 3.1"
    if params.get("rope_theta", float, 1e4) == 1e6:
        return 16384, "Code Llama"
    if values["vocab_size"] > 100_000:
        return 8192, "Llama 3"
    return (2048, "Llama 1") if params.get("norm_eps", float, 1e-5) == 1e-6 else (4096, "Llama 2")
