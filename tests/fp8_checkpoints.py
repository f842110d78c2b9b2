"""Hugging Face checkpoints with FP8 weights in the three styles, and the same model in float32."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from checkpoint_files import CONFIG, raw_safetensors, tensors_of, to_bfloat16, write_json, write_tokenizer

from edgellama import fp8

# Heads of 80 rows end inside blocks of 128; heads of 64 fill them; d_ff is no multiple of 128.
ODD_HEADS = CONFIG | {"hidden_size": 160, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 200}
EVEN_HEADS = CONFIG | {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 200}

_FINITE = {name: np.flatnonzero(np.isfinite(fp8.values(name))).astype(np.uint8) for name in fp8.FORMATS}
_DTYPES = {"e4m3": "F8_E4M3", "e5m2": "F8_E5M2"}


@dataclass
class Checkpoint:
    """`stored` is (dtype, array) by name, `codes` and `scales` what FP8 weights are made of, `floats` all values."""

    config: dict
    stored: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    codes: dict[str, np.ndarray] = field(default_factory=dict)
    scales: dict[str, np.ndarray] = field(default_factory=dict)  # in the shape of the checkpoint
    floats: dict[str, np.ndarray] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        table, data = {}, b""
        for name, (dtype, values) in self.stored.items():
            packed = np.ascontiguousarray(values).tobytes()
            offsets = [len(data), len(data) + len(packed)]
            table[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": offsets}
            data += packed
        (folder / "model.safetensors").write_bytes(raw_safetensors(table, data))
        write_json(folder / "config.json", self.config)
        write_tokenizer(folder)
        return folder

    def copy(self) -> "Checkpoint":
        return Checkpoint(json.loads(json.dumps(self.config)), dict(self.stored))


SHAPES = {
    "tensor": lambda shape: (1,),
    "row": lambda shape: (shape[0], 1),
    "block": lambda shape: (-(-shape[0] // 128), -(-shape[1] // 128)),
    "run": lambda shape: (shape[0], -(-shape[1] // 128)),
}
QUANTIZATION = {
    "compressed-tensors": {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
                "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
            }
        },
    },
    "fbgemm_fp8": {
        "quant_method": "fbgemm_fp8",
        "activation_scale_ub": 1200.0,
        "modules_to_not_convert": ["lm_head", "model.layers.0.self_attn.q_proj"],
    },
    "fp8": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    },
}
SUFFIX = {"compressed-tensors": "weight_scale", "fbgemm_fp8": "weight_scale", "fp8": "weight_scale_inv"}
GRANULARITY = {"compressed-tensors": "row", "fbgemm_fp8": "row", "fp8": "block"}


def make(
    method: str, sizes: dict, granularity: str | None = None, scale_type: str = "F32", form: str = "e4m3"
) -> Checkpoint:
    """Random codes, among them all finite ones; layers' matrices are FP8, and others BF16.

    `granularity`: that of all scales, in place of the method's.
    """
    random = np.random.default_rng(5)
    made = Checkpoint(sizes | {"quantization_config": json.loads(json.dumps(QUANTIZATION[method]))})
    left_alone = QUANTIZATION[method].get("modules_to_not_convert", [])
    for name, values in tensors_of(sizes).items():
        module = name.removesuffix(".weight")
        if values.ndim == 2 and "layers" in name and module not in left_alone:
            codes = random.choice(_FINITE[form], values.shape)
            codes.flat[: len(_FINITE[form])] = _FINITE[form]
            largest = np.abs(fp8.values(form)[codes]).std()
            shape = SHAPES[granularity or GRANULARITY[method]](values.shape)
            scales = random.uniform(0.5, 1.5, shape) / largest / np.sqrt(values.shape[1])
            dtype, scales = _as_type(scales.astype(np.float32), scale_type)
            made.codes[name], made.scales[name] = codes, _as_float(dtype, scales)
            made.stored[name] = _DTYPES[form], codes
            made.stored[f"{module}.{SUFFIX[method]}"] = dtype, scales
            made.floats[name] = fp8.values(form)[codes] * full_scales(made.scales[name], values.shape)
        else:
            made.stored[name] = "BF16", to_bfloat16(values)
            made.floats[name] = values
    return made


def full_scales(scales: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A scale for every value, of `scales` as a checkpoint has them."""
    if scales.size == 1:
        return np.full(shape, scales.reshape(()))
    row_times = 1 if len(scales) == shape[0] else 128
    column_times = shape[1] if scales.shape[1] == 1 else 128
    return np.repeat(np.repeat(scales, row_times, 0), column_times, 1)[: shape[0], : shape[1]]


def _as_type(scales: np.ndarray, dtype: str) -> tuple[str, np.ndarray]:
    return dtype, {"F32": scales, "F16": scales.astype("<f2"), "BF16": to_bfloat16(scales)}[dtype]


def _as_float(dtype: str, scales: np.ndarray) -> np.ndarray:
    return (scales.astype("<u4") << 16).view("<f4") if dtype == "BF16" else scales.astype("<f4")
