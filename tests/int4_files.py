"""Checkpoints of GPTQ and AWQ written from the formats' definitions, code by code, with what they decode to."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from checkpoint_files import CONFIG, raw_safetensors, tensors_of, write_json, write_tokenizer

SIZES = CONFIG | {"hidden_size": 64, "intermediate_size": 96}
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of eight outputs the nibbles of a word belong to, lowest first
_NAMES = {"int32": "I32", "int64": "I64", "float16": "F16", "float32": "F32", "int16": "I16", "int8": "I8"}

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Quantized:
    """codes (n_out, n_in), scales and zeros (n_out, n_groups), group_of (n_in,)."""

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray
    group_of: np.ndarray
    bits: int

    @property
    def values(self) -> np.ndarray:
        """float32 (n_out, n_in), by integers first."""
        differences = self.codes.astype(int) - self.zeros[:, self.group_of].astype(int)
        return (differences * self.scales.astype(np.float64)[:, self.group_of]).astype(np.float32)


def quantize(weight: np.ndarray, bits: int, group_of: np.ndarray, symmetric: bool) -> Quantized:
    """Rounded to the nearest code of a group's range, which a symmetric one has around zero."""
    n_groups, last = group_of.max() + 1, (1 << bits) - 1
    parts = [weight[:, group_of == group] for group in range(n_groups)]
    low = np.stack([np.minimum(part.min(axis=1), 0) for part in parts], axis=1)
    high = np.stack([np.maximum(part.max(axis=1), 0) for part in parts], axis=1)
    if symmetric:
        high = np.maximum(high, -low)
        low = -high
    scales = ((high - low) / last).astype(np.float16)
    middle = np.full(scales.shape, (last + 1) // 2)
    zeros = middle if symmetric else np.round(-low / scales.astype(np.float32)).astype(int).clip(0, last)
    codes = np.round(weight / scales.astype(np.float32)[:, group_of]) + zeros[:, group_of]
    return Quantized(codes.clip(0, last).astype(int), scales, zeros, group_of, bits)


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """One long number, the first value in its lowest bits, cut into int32 words."""
    number = sum(int(value) << (bits * place) for place, value in enumerate(values))
    return np.frombuffer(number.to_bytes(len(values) * bits // 8, "little"), "<i4")


def gptq_parts(weight: Quantized, minus: int = 1) -> Tensors:
    """`minus` is what zeros are stored less than they are."""
    stored = (weight.zeros - minus) % (1 << weight.bits)
    return {
        "qweight": np.stack([packed(row, weight.bits) for row in weight.codes], axis=1),
        "qzeros": np.stack([packed(column, weight.bits) for column in stored.T]),
        "scales": np.ascontiguousarray(weight.scales.T),
        "g_idx": weight.group_of.astype("<i4"),
    }


def _nibbles(rows: np.ndarray) -> np.ndarray:
    """(n, n_out) -> (n, n_out / 8) words in AWQ's order."""
    return np.stack(
        [np.concatenate([packed(eight[list(AWQ_ORDER)], 4) for eight in row.reshape(-1, 8)]) for row in rows]
    )


def awq_gemm_parts(weight: Quantized) -> Tensors:
    return {
        "qweight": _nibbles(weight.codes.T),
        "qzeros": _nibbles(weight.zeros.T),
        "scales": np.ascontiguousarray(weight.scales.T),
    }


def awq_gemv_parts(weight: Quantized) -> Tensors:
    """Zeros and scales are padded to whole words."""
    missing = -weight.zeros.shape[1] % 8
    zeros, scales = (np.pad(values, ((0, 0), (0, missing))) for values in (weight.zeros, weight.scales))
    return {
        "qweight": np.stack([packed(row, 4) for row in weight.codes]),
        "qzeros": np.stack([packed(row, 4) for row in zeros]),
        "scales": scales,
    }


def pack_quantized_parts(weight: Quantized, dtype: str = "<f2", symmetric: bool = False) -> Tensors:
    """Codes and zeros already count from 0, as compressed-tensors packs them after adding half their range."""
    parts = {
        "weight_packed": np.stack([packed(row, weight.bits) for row in weight.codes]),
        "weight_scale": weight.scales.astype(dtype),
        "weight_shape": np.array(weight.codes.shape, "<i8"),
        "weight_zero_point": np.stack([packed(column, weight.bits) for column in weight.zeros.T], axis=1),
    }
    return {name: part for name, part in parts.items() if not symmetric or name != "weight_zero_point"}


def groups(n_in: int, size: int) -> np.ndarray:
    return np.arange(n_in) // (n_in if size == -1 else size)


@dataclass
class Model:
    """`stored` are the tensors of the file, `plain` the model that they stand for, `weights` its quantized modules."""

    stored: Tensors
    plain: Tensors
    weights: dict[str, Quantized]


def model(
    config: Mapping,
    to_parts: Callable[[Quantized], Tensors],
    group_of: Callable[[str, int], np.ndarray],
    bits: int = 4,
    symmetric: bool = False,
    skipped: tuple[str, ...] = (),
) -> Model:
    """All projections quantized, but those with a part of their name in `skipped`."""
    plain = tensors_of(config)
    stored, weights = {}, {}
    for name, values in plain.items():
        module = name.removesuffix(".weight")
        if not module.endswith("_proj") or any(part in name for part in skipped):
            stored[name] = values.astype("<f4")
            continue
        weights[module] = quantize(values, bits, group_of(module, values.shape[1]), symmetric)
        stored |= {f"{module}.{part}": array for part, array in to_parts(weights[module]).items()}
    return Model(stored, plain | {f"{module}.weight": weight.values for module, weight in weights.items()}, weights)


def mixed_safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Every tensor in its own type."""
    table, data = {}, b""
    for name, values in tensors.items():
        body = np.ascontiguousarray(values).tobytes()
        offsets = [len(data), len(data) + len(body)]
        table[name] = {"dtype": _NAMES[values.dtype.name], "shape": list(values.shape), "data_offsets": offsets}
        data += body
    return raw_safetensors(table, data)


def write_quantized(
    folder: Path, config: Mapping, tensors: Mapping[str, np.ndarray], section: Mapping | None, name="model.safetensors"
) -> Path:
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", {**config} | ({"quantization_config": dict(section)} if section else {}))
    write_tokenizer(folder)
    (folder / name).write_bytes(mixed_safetensors(tensors))
    return folder


def change_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= changes
    write_json(folder / "config.json", config)
