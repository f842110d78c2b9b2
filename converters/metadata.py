"""The keys of the output, from a checkpoint's config and the family's record of where each number stands.

Python's types say GGUF's: int is uint32, float is float32, lists and bytes are arrays.
"""

from types import ModuleType
from typing import Any

from edgellama.arch.spec import Key

from .errors import ConvertError
from .fields import Fields, computed
from .rope_scaling import Rope, read_rope

_LARGEST_UINT32 = (1 << 32) - 1


def model_keys(
    architecture: str, family: ModuleType, config: Fields, context: int | None
) -> tuple[dict[str, Any], Rope]:
    """The keys `{architecture}.*`, and the rotary tensors and notes that came with them."""
    values = _derived(config)
    keys = {key.name: _value(key, values) for key in family.KEYS}
    rope = read_rope(values, keys["attention.key_length"], context)
    if context is not None:
        keys["context_length"] = context
    keys |= rope.keys | {"vocab_size": values.get("vocab_size", int)}
    named = {f"{architecture}.{name}": value for name, value in keys.items() if value is not None}
    _refuse_huge(named, config)
    return named, rope


def _value(key: Key, config: Fields) -> Any:
    if key.compute and not any(name in config for name in key.fields):
        return computed(key.compute, config)
    return config.get(key.fields, key.kind, key.default)


def general_keys(name: str, size_label: str, file_type: int) -> dict[str, Any]:
    """The keys `general.*` that every file has."""
    return {
        "general.type": "model",
        "general.name": name,
        "general.size_label": size_label,
        "general.file_type": file_type,
        "general.quantization_version": 2,
    }


def notes_on_window(architecture: str, keys: dict[str, Any]) -> list[str]:
    """A warning where attention does not reach back to the beginning of a long text."""
    window = keys.get(f"{architecture}.attention.sliding_window")
    if window is None or window >= keys[f"{architecture}.context_length"]:
        return []
    return [f"attention reaches back {window} positions; a runtime that ignores this key is right up to there only"]


def _derived(config: Fields) -> Fields:
    """The config with the size of a head, which many leave to division."""
    if "head_dim" in config:
        return config
    d_model, n_heads = config.get("hidden_size", int), config.get("num_attention_heads", int)
    if n_heads <= 0 or d_model % n_heads:
        raise ConvertError(f"{config.path}: {n_heads} heads do not divide the hidden_size of {d_model}")
    return Fields(config.values | {"head_dim": d_model // n_heads}, config.path)


def _refuse_huge(keys: dict[str, Any], config: Fields) -> None:
    for key, value in keys.items():
        if isinstance(value, int) and not 0 <= value <= _LARGEST_UINT32:
            raise ConvertError(f"{config.path}: {key} would be {value}, which no GGUF file can hold")
