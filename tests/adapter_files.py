"""PEFT adapters written by hand, and the weights that they mean, merged in float64 by the definitions."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from checkpoint_files import Tensors, safetensors_bytes, to_bfloat16, torch_bytes, write_json

PREFIX = "base_model.model."
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
PROJECTIONS += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
EMBEDDING, OUTPUT = "model.embed_tokens", "lm_head"
SETTINGS = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "maker/tiny-llama",
    "r": 4,
    "lora_alpha": 8,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "fan_in_fan_out": False,
    "use_rslora": False,
    "use_dora": False,
    "init_lora_weights": True,
}


def all_modules(n_layers: int = 2) -> list[str]:
    return [f"model.layers.{layer}.{name}" for layer in range(n_layers) for name in PROJECTIONS]


def draw(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Values that bfloat16 holds exactly."""
    values = np.random.default_rng(seed).standard_normal(shape) * 0.2
    return (to_bfloat16(values).astype("<u4") << 16).view("<f4")


def pairs(base: Tensors, modules: list[str], rank: int | Mapping[str, int] = 4) -> dict[str, np.ndarray]:
    """Matrices A and B of each module, by PEFT's names without the prefix."""
    found = {}
    for seed, module in enumerate(modules):
        n_rank = rank if isinstance(rank, int) else rank.get(module, 4)
        n_out, n_in = base[f"{module}.weight"].shape
        if module == EMBEDDING:
            found[f"{module}.lora_embedding_A"] = draw((n_rank, n_out), seed)
            found[f"{module}.lora_embedding_B"] = draw((n_in, n_rank), seed + 100)
        else:
            found[f"{module}.lora_A.weight"] = draw((n_rank, n_in), seed)
            found[f"{module}.lora_B.weight"] = draw((n_out, n_rank), seed + 100)
    return found


def merged(
    base: Tensors, adapter: Tensors, alpha: float | Mapping[str, float] = 8, rank_power: float = 1.0
) -> dict[str, np.ndarray]:
    """float64. `rank_power`: 0.5 for rank-stabilized LoRA. DoRA where a module has its magnitudes."""
    tensors = {name: values.astype(np.float64) for name, values in base.items()}
    for name, values in adapter.items():
        if ".lora_" not in name:
            tensors[name] = values.astype(np.float64)
    for name, a in adapter.items():
        module, _, kind = name.partition(".lora_")
        if kind not in ("A.weight", "embedding_A"):
            continue
        b = adapter[name.replace("_A", "_B")].astype(np.float64)
        number = alpha if isinstance(alpha, int | float) else alpha.get(module, 8)
        change = number / math.pow(len(a), rank_power) * (b @ a)
        weight = tensors[f"{module}.weight"] + (change.T if kind == "embedding_A" else change)
        if f"{module}.lora_magnitude_vector" in adapter:
            lengths = np.sqrt((weight**2).sum(axis=1, keepdims=True))
            weight = adapter[f"{module}.lora_magnitude_vector"][:, None] * weight / lengths
        tensors[f"{module}.weight"] = weight
    return tensors


def write_adapter(folder: Path, tensors: Tensors, file: str = "adapter_model.safetensors", **settings) -> Path:
    """A folder of PEFT; `tensors` without the prefix."""
    folder.mkdir(exist_ok=True)
    write_json(folder / "adapter_config.json", SETTINGS | settings)
    named = {PREFIX + name: values for name, values in tensors.items()}
    to_bytes = safetensors_bytes if file.endswith(".safetensors") else torch_bytes
    (folder / file).write_bytes(to_bytes(named, "F32"))
    return folder
