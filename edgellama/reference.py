"""The NumPy interpreter of a Program: one plain function per op, and the oracle of every test.

Values are float32 and buffers are plain arrays: a quantized buffer holds the values that its integers stand for, a
packed weight the values of its rows. Whatever no op has written is NaN, so that reading it shows.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import formats
from .frame import PAGE_POSITIONS, Frame
from .ops import ADD, ADJACENT, SWIGLU, TOKENS
from .program import Buffer, CacheSide, Op, Program, View, Weight

Floats = NDArray[np.float32]
BLOCK = 32  # values that share a scale in quantized activations and in a Q8_0 cache


def integers_and_scales(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """x (..., n * 32) -> int8 (..., n, 32) and float32 (..., n, 1): max|x| / 127, integers rounded half to even."""
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    return np.rint(blocks * inverse).astype(np.int8), largest * np.float32(1 / 127)


def quantized(x: Floats) -> Floats:
    """What x (..., n * 32) is as int8 blocks with float32 scales."""
    integers, scales = integers_and_scales(x)
    return (integers * scales).reshape(x.shape)


def round_q8_0(x: Floats) -> Floats:
    """What heads (..., width) are as int8 blocks with float16 scales; the last block is padded with zeros."""
    width = x.shape[-1]
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -width % BLOCK)]
    integers, scales = integers_and_scales(np.pad(x, padding))
    values = integers * scales.astype(np.float16).astype(np.float32)
    return values.reshape(*x.shape[:-1], -1)[..., :width]


def round_f16(x: Floats) -> Floats:
    return x.astype(np.float16).astype(np.float32)


def keep(x: Floats) -> Floats:
    return x


KV_ROUNDING = {"f32": keep, "f16": round_f16, "q8_0": round_q8_0}


def rms_normalized(x: Floats, weight: Floats, epsilon: float) -> Floats:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis."""
    mean_square = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)
    return (x / np.sqrt(mean_square + np.float32(epsilon))).astype(np.float32) * weight


def silu(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(-x) of a large negative x is infinite, and the quotient rightly zero
        return x / (1 + np.exp(-x))


def rotated(heads: Floats, table: Floats, pairing: int) -> Floats:
    """Heads (n_tokens, n_heads, width) whose first values turn by table (n_tokens, 2 * n_pairs): cosines, sines."""
    n_pairs = table.shape[1] // 2
    cosine, sine = table[:, None, :n_pairs], table[:, None, n_pairs:]
    first, second = (
        (slice(0, 2 * n_pairs, 2), slice(1, 2 * n_pairs, 2))
        if pairing == ADJACENT
        else (slice(0, n_pairs), slice(n_pairs, 2 * n_pairs))
    )
    a, b = heads[..., first], heads[..., second]
    out = heads.copy()
    out[..., first], out[..., second] = a * cosine - b * sine, b * cosine + a * sine
    return out


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attended(query: Floats, keys: Floats, values: Floats, scale: float) -> Floats:
    """One token: query (n_heads, key_dim), keys and values (n_positions, n_kv_heads, dim) -> (n_heads * value_dim,)."""
    grouped = query.reshape(keys.shape[1], -1, query.shape[1])  # (n_kv_heads, group, key_dim)
    scores = grouped @ keys.transpose(1, 2, 0) * np.float32(scale)  # (n_kv_heads, group, n_positions)
    return (softmax(scores) @ values.transpose(1, 0, 2)).reshape(-1)


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
    frame = machine.frame
    angles = np.multiply.outer(frame.positions[: frame.n_tokens], op.operands["inverse_frequencies"].values)
    table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    machine.operand(op, "table")[:] = table.astype(np.float32) * np.float32(op.floats["magnitude"])


def embed(machine: ReferenceMachine, op: Op) -> None:
    tensor = op.operands["table"].tensors[0]
    rows = tensor.data.reshape(tensor.shape[0], -1)[machine.frame.token_ids[: machine.frame.n_tokens]]
    machine.operand(op, "out")[:] = formats.by_id(tensor.type_id).decode_rows(rows, tensor.shape[1])


def rmsnorm(machine: ReferenceMachine, op: Op) -> None:
    weight = op.operands["weight"].values
    machine.operand(op, "out")[:] = rms_normalized(machine.operand(op, "x"), weight, op.floats["epsilon"])


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
    qkv, table, sizes = machine.operand(op, "qkv"), machine.operand(op, "table"), op.integers
    queries, keys, values = split_heads(qkv, sizes)
    queries[:] = rotated(queries, table, sizes["pairing"])
    qkv[:, : queries[0].size] = queries.reshape(len(qkv), -1)
    machine.store(op.operands["keys"], rotated(keys, table, sizes["pairing"]))
    machine.store(op.operands["values"], values)


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
    slots, visible = frame.slots[: frame.n_tokens], frame.visible[: frame.n_tokens]
    for slot in np.unique(slots):
        tokens = np.flatnonzero(slots == slot)
        end = visible[tokens, 1].max()
        keys = machine.cached(op.operands["keys"], slot, end)
        values = machine.cached(op.operands["values"], slot, end)
        for token in tokens:
            seen = slice(*visible[token])
            out[token] = attended(queries[token], keys[seen], values[seen], op.floats["scale"])


def gather(machine: ReferenceMachine, op: Op) -> None:
    rows = machine.frame.logit_rows[: machine.frame.n_rows]
    machine.operand(op, "out")[:] = machine.operand(op, "x")[rows]


def multiply_silu(machine: ReferenceMachine, op: Op) -> None:
    gate_up, width = machine.operand(op, "gate_up"), op.integers["width"]
    machine.operand(op, "out")[:] = silu(gate_up[:, :width]) * gate_up[:, width:]


OPERATIONS: dict[str, Callable[[ReferenceMachine, Op], None]] = {
    operation.__name__: operation
    for operation in (
        rope_table, embed, rmsnorm, quantize, panel, matmul, rope_store, attention, gather, multiply_silu,
    )
}  # fmt: skip
