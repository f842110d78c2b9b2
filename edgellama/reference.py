"""The NumPy interpreter of a Program: one plain function per op, and the oracle of every test.

Values are float32 and buffers are plain arrays: a quantized buffer holds the values that its integers stand for, a
packed weight the values of its rows. Whatever no op has written is NaN, so that reading it shows.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import formats
from .frame import PAGE_POSITIONS, Frame
from .op_functions import (
    ACTIVATIONS,
    KV_ROUNDING,
    Floats,
    attended,
    keep,
    layer_normalized,
    quantized,
    rms_normalized,
    rotated,
    silu,
    soft_capped,
)
from .op_functions import integers_and_scales as integers_and_scales
from .op_functions import round_q8_0 as round_q8_0
from .ops import ADD, SWIGLU, TOKENS
from .program import Buffer, CacheSide, Op, Program, View, Weight


class ReferenceMachine:
    """Runs `program` on what `frame` holds, and keeps a key-value cache from run to run.

    `kv_type` is 'f16', 'q8_0' or 'f32'. `quantize_activations=False` gives the exact forward pass of the decoded
    weights.
    """

    def __init__(
        self, program: Program, frame: Frame, *, kv_type: str = "f16", quantize_activations: bool = True
    ) -> None:
        self.program, self.frame = program, frame
        self.round_cached = KV_ROUNDING[kv_type]
        self.round_activations = quantized if quantize_activations else keep
        self.buffers: dict[Buffer, Floats] = {}
        self.pages: dict[tuple[CacheSide, int], Floats] = {}  # (PAGE_POSITIONS, n_kv_heads, width) each
        self.matrices: dict[Weight, list[Floats]] = {}

    def run(self) -> Floats:
        """The logits of the frame's rows, (n_rows, vocabulary)."""
        self.buffers.clear()
        for op in self.program.ops:
            OPERATIONS[op.spec.name](self, op)
        return self.view(self.program.logits).copy()

    def view(self, view: View) -> Floats:
        """A view's columns of all rows of this frame, writable."""
        buffer = view.buffer
        if buffer not in self.buffers:
            n_rows = self.frame.n_tokens if buffer.extent == TOKENS else self.frame.n_rows
            self.buffers[buffer] = np.full((n_rows, buffer.width), np.nan, np.float32)
        return self.buffers[buffer][:, view.start : view.start + view.width]

    def operand(self, op: Op, name: str) -> Floats:
        return self.view(op.operands[name])

    def matrix(self, weight: Weight) -> list[Floats]:
        """The decoded tensors of a weight, (n_rows, n_columns) each."""
        if weight not in self.matrices:
            self.matrices[weight] = [tensor.decode() for tensor in weight.tensors]
        return self.matrices[weight]

    def store(self, side: CacheSide, heads: Floats) -> None:
        """Heads (n_tokens, n_kv_heads, width) into the frame's cache rows."""
        rows = self.frame.cache_rows[: self.frame.n_tokens]
        for row, head in zip(rows.tolist(), self.round_cached(heads), strict=True):
            page, place = divmod(row, PAGE_POSITIONS)
            if (side, page) not in self.pages:
                self.pages[side, page] = np.full((PAGE_POSITIONS, *head.shape), np.nan, np.float32)
            self.pages[side, page][place] = head

    def cached(self, side: CacheSide, slot: int, end: int) -> Floats:
        """Positions 0..end of a sequence, (end, n_kv_heads, width)."""
        pages = self.frame.page_table[slot, : -(-end // PAGE_POSITIONS)].tolist()
        return np.concatenate([self.pages[side, page] for page in pages])[:end]


def rope_table(machine: ReferenceMachine, op: Op) -> None:
    frame, n_first = machine.frame, op.integers["n_pairs"] - op.integers["n_second"]
    angles = np.multiply.outer(frame.positions[: frame.n_tokens], op.operands["inverse_frequencies"].values)
    second = np.multiply.outer(frame.second_positions[: frame.n_tokens], op.operands["inverse_frequencies"].values)
    angles[:, n_first:] = second[:, n_first:]
    table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    machine.operand(op, "table")[:] = table.astype(np.float32) * np.float32(op.floats["magnitude"])


def embed(machine: ReferenceMachine, op: Op) -> None:
    tensor = op.operands["table"].tensors[0]
    rows = tensor.data.reshape(tensor.shape[0], -1)[machine.frame.token_ids[: machine.frame.n_tokens]]
    values = formats.by_id(tensor.type_id).decode_rows(rows, tensor.shape[1])
    machine.operand(op, "out")[:] = values * np.float32(op.floats["scale"])


def add_positions(machine: ReferenceMachine, op: Op) -> None:
    positions = machine.frame.positions[: machine.frame.n_tokens]
    machine.operand(op, "x")[:] += op.operands["table"].values[positions]


def rmsnorm(machine: ReferenceMachine, op: Op) -> None:
    weight = op.operands["weight"].values
    machine.operand(op, "out")[:] = rms_normalized(machine.operand(op, "x"), weight, op.floats["epsilon"])


def layernorm(machine: ReferenceMachine, op: Op) -> None:
    weight, bias = op.operands["weight"].values, op.operands["bias"]
    x = machine.operand(op, "x")
    machine.operand(op, "out")[:] = layer_normalized(x, weight, bias and bias.values, op.floats["epsilon"])


def add_rmsnorm(machine: ReferenceMachine, op: Op) -> None:
    weight = op.operands["weight"].values
    machine.operand(op, "out")[:] += rms_normalized(machine.operand(op, "x"), weight, op.floats["epsilon"])


def quantize(machine: ReferenceMachine, op: Op) -> None:
    machine.operand(op, "out")[:] = machine.round_activations(machine.operand(op, "x"))


def panel(machine: ReferenceMachine, op: Op) -> None:
    machine.operand(op, "out")[:] = machine.operand(op, "x")


def matmul(machine: ReferenceMachine, op: Op) -> None:
    x, out = machine.operand(op, "x"), machine.operand(op, "out")
    products = [x @ matrix.T for matrix in machine.matrix(op.operands["weight"])]
    if op.integers["mode"] == SWIGLU:
        out[:] = silu(products[0]) * products[1]
        return
    result = np.concatenate(products, axis=1)
    if op.operands["bias"] is not None:
        result += op.operands["bias"].values
    out[:] = out + result if op.integers["mode"] == ADD else result


def rope_store(machine: ReferenceMachine, op: Op) -> None:
    qkv, sizes = machine.operand(op, "qkv"), op.integers
    queries, keys, values = split_heads(qkv, sizes)
    queries, keys = (turned(machine, op, heads, norm) for heads, norm in ((queries, "query_norm"), (keys, "key_norm")))
    qkv[:, : queries[0].size] = queries.reshape(len(qkv), -1)
    machine.store(op.operands["keys"], keys)
    machine.store(op.operands["values"], values)


def turned(machine: ReferenceMachine, op: Op, heads: Floats, norm: str) -> Floats:
    """Heads (n_tokens, n_heads, key_dim) normed, if the op has that norm, and rotated, if it has a table."""
    if op.operands[norm] is not None:
        heads = rms_normalized(heads, op.operands[norm].values, op.floats["epsilon"])
    if op.operands["table"] is None:
        return heads
    return rotated(heads, machine.operand(op, "table"), op.integers["pairing"])


def split_heads(qkv: Floats, sizes: dict[str, int]) -> tuple[Floats, Floats, Floats]:
    """Rows of queries, keys and values -> (n_tokens, heads, dim) each, copied."""
    n_heads, n_kv_heads, key_dim = sizes["n_heads"], sizes["n_kv_heads"], sizes["key_dim"]
    places = np.cumsum([n_heads * key_dim, n_kv_heads * key_dim, n_kv_heads * sizes["value_dim"]])
    queries, keys, values, _ = np.split(qkv, places, axis=1)
    n_tokens = len(qkv)
    return (
        queries.reshape(n_tokens, n_heads, key_dim).copy(),
        keys.reshape(n_tokens, n_kv_heads, key_dim).copy(),
        values.reshape(n_tokens, n_kv_heads, sizes["value_dim"]).copy(),
    )


def attention(machine: ReferenceMachine, op: Op) -> None:
    frame, sizes, out = machine.frame, op.integers, machine.operand(op, "out")
    queries, _, _ = split_heads(machine.operand(op, "qkv"), sizes)
    slots, visible = frame.slots[: frame.n_tokens], seen_ranges(frame, sizes["window"])
    slopes = op.operands["slopes"] and op.operands["slopes"].values
    for slot in np.unique(slots):
        tokens = np.flatnonzero(slots == slot)
        end = visible[tokens, 1].max()
        keys = machine.cached(op.operands["keys"], slot, end)
        values = machine.cached(op.operands["values"], slot, end)
        for token in tokens:
            seen = slice(*visible[token])
            out[token] = attended(queries[token], keys[seen], values[seen], *op.floats.values(), slopes)


def seen_ranges(frame: Frame, window: int) -> NDArray[np.int32]:
    """(first, end) positions for each token of a frame, int32 (n_tokens, 2)."""
    visible = frame.visible[: frame.n_tokens].copy()
    if window:
        visible[:, 0] = np.maximum(visible[:, 0], visible[:, 1] - window)
    return visible


def gather(machine: ReferenceMachine, op: Op) -> None:
    rows = machine.frame.logit_rows[: machine.frame.n_rows]
    machine.operand(op, "out")[:] = machine.operand(op, "x")[rows]


def multiply_silu(machine: ReferenceMachine, op: Op) -> None:
    gate_up, width = machine.operand(op, "gate_up"), op.integers["width"]
    activation = ACTIVATIONS[op.integers["activation"]]
    machine.operand(op, "out")[:] = activation(gate_up[:, :width]) * gate_up[:, width:]


def activate(machine: ReferenceMachine, op: Op) -> None:
    x = machine.operand(op, "x")
    x[:] = ACTIVATIONS[op.integers["activation"]](x)


def soft_cap(machine: ReferenceMachine, op: Op) -> None:
    x = machine.operand(op, "x")
    x[:] = soft_capped(x, op.floats["cap"])


OPERATIONS: dict[str, Callable[[ReferenceMachine, Op], None]] = {
    operation.__name__: operation
    for operation in (
        rope_table, embed, rmsnorm, quantize, panel, matmul, rope_store, attention, gather, multiply_silu,
        add_positions, layernorm, add_rmsnorm, activate, soft_cap,
    )
}  # fmt: skip
