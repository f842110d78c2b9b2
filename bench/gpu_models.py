"""Models of real shapes and random weights that exist only on the GPU: no file is written, read or sent.

Codes are random bytes, scales are small constants with a jitter: kernels do the work they do on a real model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgellama import arch
from edgellama.config import ModelConfig, RopeScaling
from edgellama.cuda.device import Device
from edgellama.cuda.machine import MAX_TOKENS, CudaMachine
from edgellama.cuda.stream import Stream
from edgellama.cuda.weights import FORMATS, DeviceMatrix
from edgellama.formats import REGISTRY
from edgellama.frame import PAGE_POSITIONS, Frame
from edgellama.kv_cache import PageTable
from edgellama.program import Builder, Weight

from .synthesize import SHAPES, Shape, plan_tensors, rope_factors
from .type_mixes import mix_named

PATTERN_BYTES = 8 << 20
FP8 = "FP8"  # feed-forward matrices of the inner layers in FP8, the rest in BF16, as in Meta's checkpoints


@dataclass(frozen=True, eq=False)
class ShapeOnly:
    """What a Builder asks of a tensor, without the tensor."""

    name: str
    type_name: str
    type_id: int
    shape: tuple[int, ...]
    n_bytes: int
    scale_columns: int = 0
    values: np.ndarray | None = None

    def decode(self) -> np.ndarray:
        return np.ones(self.shape, np.float32) if self.values is None else self.values


def tensors_of(shape: Shape, type_name: str) -> dict[str, ShapeOnly]:
    """All tensors of a model by name."""
    by_name = {item.name: item for item in REGISTRY.values()}
    mix = mix_named("BF16" if type_name == FP8 else type_name)
    tensors = {}
    for plan in plan_tensors(shape, mix):
        item = by_name[plan.type_name.lower()]
        dimensions = (plan.n_rows, plan.n_columns) if plan.n_rows else (plan.n_columns,)
        n_bytes = max(plan.n_rows, 1) * item.row_bytes(plan.n_columns)
        values = rope_factors(shape) if plan.name == "rope_freqs.weight" else None
        tensors[plan.name] = ShapeOnly(plan.name, item.name, item.type_id, dimensions, n_bytes, 0, values)
        if type_name == FP8 and _is_fp8(plan.name, shape.n_layers):
            n_bytes = plan.n_rows * (plan.n_columns + 4)
            tensors[plan.name] = ShapeOnly(plan.name, "fp8_e4m3", 24, dimensions, n_bytes, plan.n_columns)
    return tensors


def _is_fp8(name: str, n_layers: int) -> bool:
    return ".ffn_" in name and "norm" not in name and name.split(".")[1] not in ("0", str(n_layers - 1))


def config_of(shape: Shape) -> ModelConfig:
    scaling = RopeScaling("llama3") if shape.rope_factor > 1 else RopeScaling()
    return ModelConfig(
        architecture="llama", name=shape.name, context_length=shape.n_context, d_model=shape.d_model,
        n_layers=shape.n_layers, d_ff=shape.d_ffn, n_heads=shape.n_heads, n_kv_heads=shape.n_kv_heads,
        head_dim_k=shape.head_dim, head_dim_v=shape.head_dim, norm_eps=shape.norm_epsilon, rope_dim=shape.head_dim,
        rope_base=shape.rope_base, rope_scaling=scaling, vocab_size=shape.n_vocabulary,
    )  # fmt: skip


class GpuModel:
    """A machine with a sequence in it. `weight_bytes`: of a GGUF file, that a token reads (not the embedding)."""

    def __init__(self, shape_name: str, type_name: str, context: int = 4096):
        shape = SHAPES[shape_name]
        config, tensors = config_of(shape), tensors_of(shape, type_name)
        kinds = frozenset(FORMATS)
        family = arch.find("llama")
        program = family.build(Builder(tensors, 0, kinds, "f16"), config, context)
        n_pages = -(-context // PAGE_POSITIONS)
        self.config, self.context = config, context
        self.frame = Frame(MAX_TOKENS, 64, config.vocab_size, 1, n_pages)
        self.pages = PageTable(self.frame, n_pages)
        self.pages.reserve(0, context)
        self.machine = CudaMachine(None, program, self.frame, n_pages, fill=fill_with_random)
        unread = 0 if shape.tied else tensors["token_embd.weight"].n_bytes
        self.weight_bytes = sum(tensor.n_bytes for tensor in tensors.values()) - unread
        self.kv_bytes_per_position = 4 * config.n_layers * config.n_kv_heads * config.head_dim_k
        self.matrix_values = sum(
            tensor.shape[0] * tensor.shape[1]
            for name, tensor in tensors.items()
            if len(tensor.shape) == 2 and name.startswith("blk")
        )

    def fill_frame(self, n_tokens: int, position: int) -> None:
        ids = np.random.default_rng(position).integers(0, self.config.vocab_size, n_tokens)
        places = np.arange(position, position + n_tokens)
        self.frame.fill(ids, places, np.zeros(n_tokens, np.int64), np.array([n_tokens - 1]))

    def close(self) -> None:
        self.machine.close()


def fill_with_random(device: Device, stream: Stream, matrices: dict[Weight, DeviceMatrix]) -> None:
    """Random codes, and scales that keep activations at a sensible size."""
    pattern = device.allocate(PATTERN_BYTES)
    for matrix in {item.codes: item for item in matrices.values()}.values():
        for address, n_bytes, data in _planes(matrix):
            stream.upload(pattern.address, data)
            stream.synchronize()
            for start in range(0, n_bytes, PATTERN_BYTES):
                stream.copy(address + start, pattern.address, min(PATTERN_BYTES, n_bytes - start))
    stream.synchronize()
    pattern.free()


def _planes(matrix: DeviceMatrix):
    """(address, bytes, pattern) of each plane of a matrix."""
    rng = np.random.default_rng(matrix.n_columns)
    n = matrix.n_rows * matrix.n_blocks
    form = FORMATS[matrix.kind]
    size = matrix.n_columns**-0.5
    codes = rng.integers(0, 256, PATTERN_BYTES, np.uint8)
    if matrix.kind in ("f16", "f32", "bf16"):
        values = rng.normal(0, size, PATTERN_BYTES // 4).astype(np.float32)
        if matrix.kind == "f16":
            codes = values.astype(np.float16).view(np.uint8)
        else:
            codes = values.view(np.uint8) if matrix.kind == "f32" else (values.view(np.uint32) >> 16).astype(np.uint16)
        codes = np.resize(codes.view(np.uint8), PATTERN_BYTES)
    if matrix.kind.startswith("fp8"):
        codes = codes & 0xB7  # magnitudes below 2
        yield matrix.scales, 4 * matrix.n_rows * matrix.extras, np.full(PATTERN_BYTES // 4, size, np.float32)
    yield matrix.codes, form.codes * n, codes
    if form.is_integer:
        yield from _scale_planes(matrix, form, n, size, rng)


def _scale_planes(matrix, form, n: int, size: float, rng):
    halves = (size / 5 * rng.uniform(0.8, 1.2, PATTERN_BYTES // 2)).astype(np.float16)
    if matrix.kind == "q8_0":
        halves = (halves / 16).astype(np.float16)
    if matrix.kind == "q6_k":
        yield matrix.scales, form.scales * n, rng.integers(-8, 8, PATTERN_BYTES, np.int8)
        yield matrix.extras, form.extras * n, rng.integers(0, 256, PATTERN_BYTES, np.uint8)
        yield matrix.extras + matrix.run, n // 4, (halves / 8).astype(np.float16)
        return
    if matrix.kind == "q4_k":
        heads = rng.integers(0, 256, (PATTERN_BYTES // 16, 16), np.uint8)
        heads[:, :2] = (halves[: len(heads), None] / 16).astype(np.float16).view(np.uint8)
        heads[:, 2:4] = (halves[: len(heads), None] / 2).astype(np.float16).view(np.uint8)
        halves = heads.reshape(-1).view(np.float16)
    yield matrix.scales, form.scales * n, halves
