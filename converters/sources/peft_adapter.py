"""LoRA adapters as PEFT saves them: adapter_config.json beside adapter_model.safetensors or adapter_model.bin.

What the fields mean: https://huggingface.co/docs/peft/package_reference/lora. A tensor belongs to a change of low rank
(`MODULE.lora_A.weight`, with the adapter's name before `.weight` in older files), or replaces one of the base.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from edgellama.gguf.cursor import quoted

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor
from ..low_rank import LowRank
from ..source_file import read_json
from .safetensors import read_safetensors
from .torch_zip import read_torch

CONFIG = "adapter_config.json"
_READERS = {"adapter_model.safetensors": read_safetensors, "adapter_model.bin": read_torch}  # best first
_PREFIX = "base_model.model."
_PART = re.compile(r"(.+)\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)(\.(?!weight$|bias$)[^.]+)?(\.weight)?")
_WRAPPER = re.compile(r"\.(modules_to_save(\.[^.]+)?|base_layer)(?=\.(weight|bias)$)")
_COPY = ".original_module."  # what PEFT keeps of a module that it trains whole
# Fields that change what an adapter computes in ways that no merge here knows.
_UNREADABLE = (
    *("alora_invocation_tokens", "layer_replication", "target_parameters", "trainable_token_indices"),
    *("lora_bias", "use_qalora", "use_bdlora", "velora_config", "monteclora_config", "arrow_config"),
)
_HARMLESS_BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")  # others also change the base's weights
_MATCH_SECONDS = 1.0  # a pattern that takes longer is an attack


@dataclass(frozen=True)
class Adapter:
    """`changes` are by module, `replaced` by the tensor's name, both without PEFT's prefix."""

    path: Path
    config: Fields
    changes: Mapping[str, LowRank]
    replaced: Mapping[str, LazyTensor]
    files: tuple[Path, ...]

    @property
    def tensor_names(self) -> list[str]:
        """What it changes or replaces."""
        return [*self.replaced, *(f"{module}.weight" for module in self.changes)]

    @property
    def base_name(self) -> str:
        """The model that it was trained on, as far as it says."""
        return (self.config.get("base_model_name_or_path", str, None) or "another model")[:80]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        if not self.config.get("fan_in_fan_out", bool, False):
            return ()
        return ("fan_in_fan_out is set, and has no meaning for this family; it is ignored, as PEFT does",)


def recognises(path: Path) -> bool:
    """A merged model may have kept the adapter's config, but not its weights."""
    is_model = (path / "config.json").is_file() and not any((path / name).exists() for name in _READERS)
    return path.is_dir() and (path / CONFIG).is_file() and not is_model


def read_adapter(path: Path) -> Adapter:
    """The adapter in a folder. Raises ConvertError, one sentence, for what is no LoRA adapter or contradicts itself."""
    config = Fields(read_json(path / CONFIG), path / CONFIG)
    _refuse_other_methods(config)
    file = next((path / name for name in _READERS if (path / name).exists()), None)
    if file is None:
        raise ConvertError(f"{path}: has {CONFIG} and no weights; {' or '.join(_READERS)} is needed")
    parts: dict[str, dict[str, LazyTensor]] = defaultdict(dict)
    replaced: dict[str, LazyTensor] = {}
    for name, tensor in _READERS[file.name](file).items():
        _sort_in(file, name.removeprefix(_PREFIX), tensor, parts, replaced)
    if not parts:
        raise ConvertError(f"{file}: holds no lora_A and lora_B, so it is no LoRA adapter")
    changes = {module: _change(file, module, found, config) for module, found in parts.items()}
    return Adapter(path, config, changes, replaced, (path / CONFIG, file))


def _refuse_other_methods(config: Fields) -> None:
    method = config.get("peft_type", str)
    if method != "LORA":
        raise ConvertError(f"{config.path}: is an adapter of type {method[:40]!r}, and only LORA can be converted")
    if config.get("r", int) < 1:
        raise ConvertError(f"{config.path}: r is {config.values['r']}, and must be at least 1")
    for name in _UNREADABLE:
        if config.values.get(name):
            raise ConvertError(f"{config.path}: {name} is set, and such an adapter cannot be converted")
    beginning = config.values.get("init_lora_weights", True)
    if beginning not in _HARMLESS_BEGINNINGS and beginning is not None:
        raise ConvertError(
            f"{config.path}: init_lora_weights {str(beginning)[:40]!r} changed the base's weights too before training; "
            "save the adapter as plain LoRA (PEFT's path_initial_model_for_weight_conversion)"
        )


def _sort_in(
    file: Path,
    name: str,
    tensor: LazyTensor,
    parts: dict[str, dict[str, LazyTensor]],
    replaced: dict[str, LazyTensor],
) -> None:
    """Put one tensor among the parts of changes, by module and part, or among those that replace others."""
    if _COPY in name:
        return
    part, plain = _PART.fullmatch(name), _WRAPPER.sub("", name)
    if part:
        if part[2] in parts[part[1]]:
            raise ConvertError(f"{file}: tensor {quoted(name)} is there twice; the file holds more than one adapter")
        parts[part[1]][part[2]] = tensor
    elif ".lora_" in name:
        raise ConvertError(f"{file}: tensor {quoted(name)} is of a kind that cannot be converted")
    elif plain != name or plain not in replaced:  # some are there both ways, and the wrapped one is what was trained
        replaced[plain] = tensor


def _change(file: Path, module: str, found: Mapping[str, LazyTensor], config: Fields) -> LowRank:
    is_embedding = any(part.startswith("embedding") for part in found)
    wanted = ("embedding_A", "embedding_B") if is_embedding else ("A", "B")
    for part in wanted:
        if part not in found:
            raise ConvertError(f"{file}: module {quoted(module)} lacks its lora_{part}")
    a, b = (found[part] for part in wanted)
    rank = _by_pattern("rank_pattern", "r", module, config)
    if not (len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1] == rank):
        raise ConvertError(
            f"{file}: lora_A and lora_B of {quoted(module)} have shapes {a.shape} and {b.shape}, and a change of rank "
            f"{rank:g} needs ({rank:g}, inputs) and (outputs, {rank:g})"
        )
    alpha = _by_pattern("alpha_pattern", "lora_alpha", module, config)
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora", bool, False) else rank)
    return LowRank(a, b, scale, is_embedding, _magnitude(file, module, found, config, b.n_rows))


def _magnitude(
    file: Path, module: str, found: Mapping[str, LazyTensor], config: Fields, n_out: int
) -> LazyTensor | None:
    magnitude = found.get("magnitude_vector")
    if config.get("use_dora", bool, False) != (magnitude is not None):
        raise ConvertError(f"{file}: use_dora does not agree with the lora_magnitude_vector of {quoted(module)}")
    if magnitude is None:
        return None
    if "embedding_A" in found:
        raise ConvertError(f"{file}: DoRA of the embedding {quoted(module)} cannot be converted")
    if magnitude.shape != (n_out,):
        shape = magnitude.shape
        raise ConvertError(f"{file}: lora_magnitude_vector of {quoted(module)} has shape {shape}, not ({n_out},)")
    return magnitude


def _by_pattern(table: str, default: str, module: str, config: Fields) -> float:
    """A number for one module: the first pattern of a table that its name ends with, else the config's own number."""
    patterns = config.inside(table)
    for pattern in patterns.values:
        try:
            matches = regex.fullmatch(rf"(.*\.)?({pattern})", module, timeout=_MATCH_SECONDS)
        except (regex.error, TimeoutError, RecursionError) as error:
            raise ConvertError(
                f"{config.path}: {table} has the pattern {pattern[:60]!r}, which cannot be used"
            ) from error
        if matches:
            return _positive(patterns, pattern)
    return _positive(config, default)


def _positive(fields: Fields, name: str) -> Any:
    value = fields.get(name, float)
    if value <= 0:
        raise ConvertError(f"{fields.path}: {fields.prefix}{name} is {value:g}, and must be above 0")
    return value
