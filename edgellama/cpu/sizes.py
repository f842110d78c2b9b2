"""Bytes that a Program takes on the CPU beside its weights: what machine.py allocates and memory_needs.py foretells."""

from dataclasses import dataclass

from .. import ops
from ..cache_layout import padded
from ..config import ModelConfig
from ..frame import FEW_ROWS, PAGE_POSITIONS
from ..kv_cache import page_bytes
from ..program import BYTES, FLOAT_TYPES, FLOATS, QUANTIZED, Buffer, Program
from ..simd.target import OUTER_ROWS
from .layout import attention_scratch_bytes, quantized_bytes, unpacked_scratch_bytes

ALIGNMENT = 64
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class StepShape:
    """The most that one step covers, and the tokens of a register tile, which buffers of panels are padded to."""

    max_tokens: int
    max_rows: int
    tile_tokens: int


@dataclass(frozen=True)
class BufferPlan:
    """Where each buffer begins in its region, and how long the regions are.

    Private buffers lie together, so that one distance leads to each worker's copy of all of them.
    """

    offsets: dict[Buffer, int]
    private_bytes: int
    shared_bytes: int


def plan_buffers(program: Program, shape: StepShape) -> BufferPlan:
    """One buffer after the other, each aligned."""
    offsets: dict[Buffer, int] = {}
    ends = {True: 0, False: 0}
    for buffer in program.buffers():
        offsets[buffer] = ends[buffer.private]
        ends[buffer.private] += padded(_buffer_bytes(buffer, shape), ALIGNMENT)
    return BufferPlan(offsets, ends[True], ends[False])


def _buffer_bytes(buffer: Buffer, shape: StepShape) -> int:
    if buffer.kind == BYTES:
        return buffer.width
    n_rows = shape.max_tokens if buffer.extent == ops.TOKENS else shape.max_rows
    if buffer.kind == QUANTIZED:
        return quantized_bytes(buffer.width, n_rows, shape.tile_tokens)
    return 4 * buffer.width * (n_rows if buffer.kind == FLOATS else padded(n_rows, shape.tile_tokens))


def cache_side_bytes(program: Program, n_pages: int) -> list[int]:
    """Keys and values of each layer in turn."""
    return [n_pages * size for _ in range(program.n_layers) for size in page_bytes(program.attention)]


def worker_scratch_bytes(program: Program, tile_tokens: int) -> int:
    """Of one worker, for the op that needs most."""
    sizes = [
        unpacked_scratch_bytes(weight.n_columns, tile_tokens, weight.type_name in FLOAT_TYPES)
        for weight in program.weights()
    ]
    shape = program.attention
    sizes.append(attention_scratch_bytes(shape.n_heads, shape.n_kv_heads, shape.key_dim, shape.value_dim))
    return padded(max(sizes), _PAGE_BYTES)


def partial_bytes(config: ModelConfig, context: int) -> int:
    """Attention's memory for the pages of few tokens (cpu/kernels/attention.py)."""
    n_pages = -(-context // PAGE_POSITIONS)
    group = padded(config.n_heads // config.n_kv_heads, OUTER_ROWS)
    state = 64 + 4 * padded(config.head_dim_v, 16)
    return FEW_ROWS * config.n_kv_heads * (64 + n_pages * group * state)
