"""The vocabulary of a Program: every op's name, operands and parameters, and the records that hold one op.

RECORD is position-independent: operands are (region, offset). A bound record (BOUND) is the same row with kernel
addresses and plain addresses, made by an interpreter. The names here are the only link between a Program, the
reference interpreter and the kernels.
"""

from dataclasses import dataclass

import numpy as np

MAX_OPERANDS, MAX_INTEGERS, MAX_FLOATS = 8, 13, 2

# Where an operand lives. WEIGHT, CONSTANT and CACHE operands are numbers of things, the others byte offsets.
NONE, WEIGHT, CONSTANT, ACTIVATION, PRIVATE, CACHE = range(6)

# How many rows an op covers: the tokens of the frame, or the rows whose logits are wanted.
TOKENS, LOGIT_ROWS = 0, 1

RECORD = np.dtype(
    [
        ("op", "i4"),  # an index of OPS
        ("extent", "i4"),
        ("variant", "U16"),  # which kernels: the format of the weight or of the cache (records.py)
        ("regions", "i4", MAX_OPERANDS),
        ("offsets", "i8", MAX_OPERANDS),
        ("integers", "i8", MAX_INTEGERS),
        ("floats", "f4", MAX_FLOATS),
    ]
)

BOUND = np.dtype(
    [
        ("kernel_one", "i8"),  # addresses of the kernels for one row, for at most FEW_ROWS, and for more
        ("kernel_few", "i8"),
        ("kernel_many", "i8"),
        (
            "helper",
            "i8",
        ),  # addresses of functions for the format in hand: what unpacks a weight, what reads the cache
        ("second_helper", "i8"),
        ("operands", "i8", MAX_OPERANDS),
        ("integers", "i8", MAX_INTEGERS),
        ("floats", "f4", MAX_FLOATS),
        ("extent", "i4"),
        ("padding", "i4"),
        ("barrier_few", "i4"),  # wait for all workers before this op: with few rows (private ops) ...
        ("barrier_many", "i4"),  # ... and with many
        ("counter", "i8"),  # next unit of a split op
        ("cycles", "i8", 2),  # of worker 0 when profiling: in the kernel, waiting before it
    ]
)
assert BOUND.itemsize % 64 == 0  # counters of neighbouring ops never share a cache line

OPS: list["OpSpec"] = []  # every op that was declared, in that order; a record names one by its place
CODES: dict[str, int] = {}


@dataclass(frozen=True)
class OpSpec:
    """One op: operand names with their direction (r, w or rw), integer and float parameter names."""

    name: str
    operands: dict[str, str]
    integers: tuple[str, ...]
    floats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name in CODES:
            raise ValueError(f"two ops are called {self.name}")
        CODES[self.name] = len(OPS)
        OPS.append(self)

    def operand(self, name: str) -> int:
        """Byte offset of an operand's address in a BOUND record."""
        return BOUND.fields["operands"][1] + 8 * list(self.operands).index(name)

    def integer(self, name: str) -> int:
        """Byte offset of an integer in a BOUND record."""
        return BOUND.fields["integers"][1] + 8 * self.integers.index(name)

    def float(self, name: str) -> int:
        """Byte offset of a float in a BOUND record."""
        return BOUND.fields["floats"][1] + 4 * self.floats.index(name)

    def offsets(self) -> tuple[int, ...]:
        """Byte offsets of all operands, integers and floats in the order in which they are declared."""
        return (
            *map(self.operand, self.operands),
            *map(self.integer, self.integers),
            *map(self.float, self.floats),
        )


# Buffers are row-major float32, `pitch` values from one row to the next, unless an op says otherwise.
ROPE_TABLE = OpSpec("rope_table", {"table": "w", "inverse_frequencies": "r"}, ("n_pairs", "n_second"), ("magnitude",))
"""table[t] = cos(position * f) for n_pairs, then sin; times magnitude. The last n_second take the second position."""

EMBED = OpSpec("embed", {"table": "r", "out": "w"}, ("width", "row_bytes"), ("scale",))
"""out[t] = row token_id[t] of a matrix of any format, times scale."""

ADD_POSITIONS = OpSpec("add_positions", {"x": "rw", "table": "r"}, ("width",))
"""x[t] += table[position[t]], float32: learned positions."""

RMSNORM = OpSpec("rmsnorm", {"x": "r", "weight": "r", "out": "w"}, ("width",), ("epsilon",))
"""out = x / sqrt(mean(x^2) + epsilon) * weight (Zhang & Sennrich 2019)."""

LAYERNORM = OpSpec("layernorm", {"x": "r", "weight": "r", "bias": "r", "out": "w"}, ("width",), ("epsilon",))
"""out = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight (+ bias) (Ba et al. 2016)."""

ADD_RMSNORM = OpSpec("add_rmsnorm", {"x": "r", "weight": "r", "out": "rw"}, ("width",), ("epsilon",))
"""out += x / sqrt(mean(x^2) + epsilon) * weight: the norm between a block and the residual stream."""

QUANTIZE = OpSpec("quantize", {"x": "r", "out": "w"}, ("width", "pitch"))
"""out = int8 blocks of 32 with one scale each; layout in cpu/layout.py. Reference: the same values as float32."""

PANEL = OpSpec("panel", {"x": "r", "out": "w"}, ("width", "pitch"))
"""out = float32 columns in panels of tile_tokens tokens (for products with float weights)."""

MATMUL = OpSpec(
    "matmul",
    {"weight": "r", "x": "r", "out": "rw", "bias": "r"},
    ("n_rows", "n_columns", "pitch", "mode", "row_bytes", "scale_columns"),
)
"""out[t, r] (=, +=) sum_k weight[r, k] x[t, k] (+ bias[r]); SWIGLU: rows are gate and up halves, out = silu(g) * u."""

STORE, ADD, SWIGLU = range(3)  # mode of a matmul

ROPE_STORE = OpSpec(
    "rope_store",
    {"qkv": "rw", "table": "r", "keys": "w", "values": "w", "query_norm": "r", "key_norm": "r"},
    ("pitch", "n_heads", "n_kv_heads", "key_dim", "value_dim", "key_bytes", "value_bytes", "n_pairs", "pairing"),
    ("epsilon",),
)
"""Rotate q in place, rotate k into the cache, copy v into the cache (RoFormer, Su et al. 2021).

With query_norm and key_norm (key_dim,) every head goes through an RMS norm before it is rotated. n_pairs may be 0.
key_bytes and value_bytes: of one KV head in one page (cache_layout.py). Helpers: how a key and a value are stored.
"""

ADJACENT, HALF_SPLIT = range(2)  # pairing: (0,1)(2,3)… as GGUF's llama stores them, or (i, i + n_pairs)

ATTENTION = OpSpec(
    "attention",
    {"qkv": "r", "keys": "r", "values": "r", "out": "w", "partials": "w", "slopes": "r"},
    ("pitch", "out_pitch", "n_heads", "n_kv_heads", "key_dim", "value_dim", "key_bytes", "value_bytes", "window"),
    ("scale", "soft_cap"),
)
"""out[t, h] = softmax(scale * q·k over the visible positions) · v, heads grouped over KV heads (Ainslie et al. 2023).

A `window` above 0 hides all but the last so many of the visible positions. A `soft_cap` above 0 makes a score s
soft_cap * tanh(s / soft_cap) (Gemma 2). `slopes` (n_heads,) add slope * (key position - query position) to scores
(ALiBi, Press et al. 2022).

`partials` is memory for segments of long contexts (cpu/kernels/attention.py); it starts as zeros. Helpers: the
scores and the weighted values of one page.
"""

GATHER = OpSpec("gather", {"x": "r", "out": "w"}, ("width",))
"""out[i] = x[logit_row[i]]: the rows whose logits are wanted."""

SILU, GELU, GELU_ERF, RELU = range(4)  # activation; GELU is the form with tanh (Hendrycks & Gimpel 2016)

MULTIPLY_SILU = OpSpec("multiply_silu", {"gate_up": "r", "out": "w"}, ("pitch", "out_pitch", "width", "activation"))
"""out = activation(gate) * up, where up lies `width` values after gate in a row: for gates that a matmul can't fuse."""

ACTIVATE = OpSpec("activate", {"x": "rw"}, ("pitch", "width", "activation"))
"""x = activation(x), in place."""

SOFT_CAP = OpSpec("soft_cap", {"x": "rw"}, ("pitch", "width"), ("cap",))
"""x = cap * tanh(x / cap), in place."""


def bound_field(name: str) -> int:
    """Byte offset of a field that every op has."""
    return BOUND.fields[name][1]
