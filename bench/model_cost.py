"""What one token costs by the file itself: bytes that must be read and multiplications that must be done.

Bytes are those of the GGUF tensors, never of a runtime's own packing, so two runtimes are held to the same number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

KV_VALUE_BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}


@dataclass(frozen=True)
class ModelCost:
    """`weight_bytes` are read for every token of decode; `operations` counts multiply and add as two.

    `multiplies_floats`: whether most products of prefill are those of float weights, which int8 units cannot do.
    """

    weight_bytes: int
    kv_values_per_position: int
    operations_per_token: int
    output_operations: int
    multiplies_floats: bool = False

    def decode_bytes(self, depth: float, kv_type: str = "f16") -> float:
        return self.weight_bytes + depth * self.kv_values_per_position * KV_VALUE_BYTES[kv_type]

    def prefill_operations(self, n_tokens: int) -> int:
        """Matrix products only; the output matrix is needed for the last token alone."""
        return n_tokens * self.operations_per_token + self.output_operations


def cost_of(path: Path) -> ModelCost:
    from edgellama.config import ModelConfig
    from edgellama.fp8 import join_scales
    from edgellama.gguf import open_gguf
    from edgellama.program import FLOAT_TYPES

    with open_gguf(path) as file:
        config = ModelConfig.from_gguf(file)
        join_scales(file)
        embedding = file.tensors["token_embd.weight"]
        output = file.tensors.get("output.weight", embedding)
        layers = [tensor for name, tensor in file.tensors.items() if name.startswith("blk.")]
        matrices = [tensor for tensor in layers if len(tensor.shape) == 2]
        products = sum(math.prod(tensor.shape) for tensor in matrices)
        of_floats = sum(math.prod(tensor.shape) for tensor in matrices if tensor.type_name in FLOAT_TYPES)
        kv_values = config.n_layers * config.n_kv_heads * (config.head_dim_k + config.head_dim_v)
        weight_bytes = sum(tensor.n_bytes for tensor in layers) + output.n_bytes
        is_float = 2 * of_floats > products
        return ModelCost(weight_bytes, kv_values, 2 * products, 2 * math.prod(output.shape), is_float)
