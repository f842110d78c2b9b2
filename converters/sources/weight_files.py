"""Which files of a Hugging Face folder hold the weights: one file, or shards with an index."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgellama.gguf.cursor import quoted

from ..digests import indexed_digests
from ..errors import ConvertError
from ..lazy_tensor import LazyTensor
from ..source_file import read_json
from .safetensors import read_safetensors
from .torch_zip import read_torch

Reader = Callable[[Path], dict[str, LazyTensor]]
_LAYOUTS: dict[str, Reader] = {"model.safetensors": read_safetensors, "pytorch_model.bin": read_torch}  # best first
_SHARD = re.compile(r"(model|pytorch_model)-(\d+)-of-(\d+)\.(safetensors|bin)")


def has_weights(folder: Path) -> bool:
    """Whether the folder holds weights in one of the known layouts."""
    names = {path.name for path in folder.iterdir()}
    return any(name in names or f"{name}.index.json" in names for name in _LAYOUTS)


@dataclass(frozen=True)
class Weights:
    """All tensors by name, the files that hold them, and what an index says of the files' digests."""

    tensors: dict[str, LazyTensor]
    files: tuple[Path, ...]
    sha256: dict[Path, str]


def read_weights(folder: Path) -> Weights:
    """The weights of a folder. Raises ConvertError, one sentence."""
    for name, read in _LAYOUTS.items():
        if (folder / name).exists():
            return Weights(read(folder / name), (folder / name,), {})
        index = folder / f"{name}.index.json"
        if index.exists():
            return _read_shards(index, read)
    shards = sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name))
    if shards:
        raise ConvertError(f"{folder}: has shards such as {shards[0]}, and no index.json that says what they hold")
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:  # AutoGPTQ's first releases: gptq_model-4bit-128g.safetensors
        return Weights(read_safetensors(others[0]), (others[0],), {})
    raise ConvertError(f"{folder}: has no weights; {' or '.join(_LAYOUTS)} is needed, or shards with their index")


def _read_shards(index: Path, read: Reader) -> Weights:
    values = read_json(index)
    placed = values.get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ConvertError(f"{index}: has no weight_map that says which file holds which tensor")
    paths = dict(_shard_path(index, name) for name in placed.values())
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise ConvertError(
            f"{index}: names {len(missing)} files that are not there, {missing[0]} first; fetch the checkpoint again"
        )
    shards = {name: read(path) for name, path in paths.items()}
    tensors = {}
    for name, shard in placed.items():
        if name not in shards[shard]:
            raise ConvertError(f"{index}: places tensor {quoted(name)} in {shard}, which does not hold it")
        tensors[name] = shards[shard][name]
    return Weights(tensors, tuple(paths.values()), indexed_digests(values, index.parent))


def _shard_path(index: Path, name: object) -> tuple[str, Path]:
    """The name of a shard and the file beside the index; a name that could lead anywhere else is refused."""
    if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[/\\:\0]", name):
        raise ConvertError(f"{index}: names {str(name)[:80]!r} as a file, which is no plain name in the same folder")
    return name, index.parent / name
