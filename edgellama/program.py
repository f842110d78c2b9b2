"""A model as a flat list of ops over buffers and weights, and the builder that a family file writes it with.

Nothing here computes. Interpreters read the list: edgellama/reference.py in NumPy, edgellama/cpu/ with kernels.
"""

from dataclasses import dataclass, field

import numpy as np

from . import ops
from .cache_layout import side_bytes
from .errors import ModelError
from .gguf.tensor_table import TensorInfo
from .ops import LOGIT_ROWS, TOKENS, OpSpec

FLOAT_TYPES = ("f32", "f16", "bf16", "fp8_e4m3", "fp8_e5m2")  # weights that are multiplied with float32 activations
FLOATS, QUANTIZED, PANEL, BYTES = "floats", "quantized", "panel", "bytes"  # what a buffer's rows are


@dataclass(frozen=True)
class Buffer:
    """Activations: `width` values a row, or `width` bytes in all for BYTES."""

    name: str
    width: int
    kind: str = FLOATS
    extent: int = TOKENS
    private: bool = False  # every worker may hold its own copy


@dataclass(frozen=True)
class View:
    """Columns start..start+width of a buffer."""

    buffer: Buffer
    start: int
    width: int

    def overlaps(self, other: "View") -> bool:
        same = self.buffer == other.buffer
        return same and self.start < other.start + other.width and other.start < self.start + self.width


@dataclass(frozen=True, eq=False)
class Weight:
    """Matrices that one op reads: rows below each other, or (interleaved) 16 of one and 16 of the other in turn."""

    tensors: tuple[TensorInfo, ...]
    interleaved: bool = False
    packed: bool = True

    @property
    def type_name(self) -> str:
        return self.tensors[0].type_name

    @property
    def n_rows(self) -> int:
        return sum(tensor.shape[0] for tensor in self.tensors)

    @property
    def n_columns(self) -> int:
        return self.tensors[0].shape[1]

    @property
    def row_bytes(self) -> int:
        return self.tensors[0].n_bytes // self.tensors[0].shape[0]

    @property
    def scale_columns(self) -> int:
        """Columns that share a scale which lies outside the blocks, as FP8's do; else 0."""
        return getattr(self.tensors[0], "scale_columns", 0)


@dataclass(frozen=True, eq=False)
class Constant:
    """Values that never change: norm weights, biases, frequencies."""

    name: str
    values: np.ndarray


@dataclass(frozen=True)
class CacheSide:
    """Keys (side 0) or values (side 1) of one layer's cache."""

    layer: int
    side: int


Operand = View | Weight | Constant | CacheSide | None


@dataclass(frozen=True, eq=False)
class Op:
    """One step of a Program; see edgellama/ops.py for what each does."""

    spec: OpSpec
    operands: dict[str, Operand]
    integers: dict[str, int] = field(default_factory=dict)
    floats: dict[str, float] = field(default_factory=dict)
    extent: int = TOKENS

    def touched(self, direction: str) -> list[View]:
        """The views that this op reads ("r") or writes ("w")."""
        names = (name for name, way in self.spec.operands.items() if direction in way)
        return [view for view in map(self.operands.get, names) if isinstance(view, View)]


@dataclass
class Program:
    """The ops of one model, and where its logits appear, and before them what the output matrix is applied to."""

    ops: list[Op]
    logits: View
    hidden: View  # (n_rows, d_model)
    attention: "AttentionShape"
    n_layers: int

    @property
    def hidden_end(self) -> int:
        """How many ops it takes to make `hidden`."""
        return 1 + max(index for index, op in enumerate(self.ops) if self.hidden in op.touched("w"))

    def weights(self) -> list[Weight]:
        found = (operand for op in self.ops for operand in op.operands.values() if isinstance(operand, Weight))
        return list(dict.fromkeys(found))

    def constants(self) -> list[Constant]:
        found = (operand for op in self.ops for operand in op.operands.values() if isinstance(operand, Constant))
        return list(dict.fromkeys(found))

    def buffers(self) -> list[Buffer]:
        views = (operand for op in self.ops for operand in op.operands.values() if isinstance(operand, View))
        return list(dict.fromkeys(view.buffer for view in views))


class Builder:
    """What a family's build() writes to. Weights are named as in the file; views stand for activations."""

    def __init__(
        self, tensors: dict[str, TensorInfo], partial_bytes: int, packed: frozenset[str] = frozenset(),
        kv_type: str = "f16",
    ):  # fmt: skip
        """`packed` names the formats that are repacked; `partial_bytes` is attention's memory for split contexts."""
        self.tensors = dict(tensors)
        self.packed_types, self.partial_bytes, self.kv_type = packed, partial_bytes, kv_type
        self.ops: list[Op] = []
        self._prepared: dict[tuple[View, str], View] = {}

    def emit(self, spec: OpSpec, operands: dict[str, Operand], extent: int = TOKENS, **parameters) -> None:
        """Append an op; parameters are its integers and floats by name."""
        integers = {name: int(parameters[name]) for name in spec.integers}
        floats = {name: float(parameters[name]) for name in spec.floats}
        op = Op(spec, operands, integers, floats, extent)
        self.ops.append(op)
        written = op.touched("w")
        self._prepared = {
            key: view for key, view in self._prepared.items() if not any(key[0].overlaps(w) for w in written)
        }

    def buffer(self, name: str, width: int, kind: str = FLOATS, extent: int = TOKENS, private: bool = False) -> View:
        return View(Buffer(name, width, kind, extent, private), 0, width)

    def vector(self, name: str) -> Constant:
        """A one-dimensional float tensor as float32."""
        values = self.tensors[name].decode().reshape(-1)
        return Constant(name, np.ascontiguousarray(values, np.float32))

    def rope_table(
        self, inverse_frequencies: np.ndarray, magnitude: float, name: str = "rope", n_second: int = 0
    ) -> View:
        """The last `n_second` frequencies belong to the second number of a position."""
        n_pairs = len(inverse_frequencies)
        table = self.buffer(name, 2 * n_pairs)
        constant = Constant("inverse_frequencies", np.ascontiguousarray(inverse_frequencies, np.float64))
        operands = {"table": table, "inverse_frequencies": constant}
        self.emit(ops.ROPE_TABLE, operands, n_pairs=n_pairs, n_second=n_second, magnitude=magnitude)
        return table

    def embed(self, name: str, scale: float = 1.0) -> View:
        """Rows of the embedding matrix `name` for the frame's tokens, times `scale`."""
        weight = Weight((self.tensors[name],), packed=False)
        x = self.buffer("x", weight.n_columns)
        operands = {"table": weight, "out": x}
        self.emit(ops.EMBED, operands, width=weight.n_columns, row_bytes=weight.row_bytes, scale=scale)
        return x

    def add_positions(self, x: View, name: str) -> None:
        """Add the row of each token's position, of a matrix that is kept as float32."""
        table = Constant(name, np.ascontiguousarray(self.tensors[name].decode(), np.float32))
        self.emit(ops.ADD_POSITIONS, {"x": x, "table": table}, width=x.width)

    def rmsnorm(self, x: View, name: str, epsilon: float) -> View:
        extent = x.buffer.extent
        out = self.buffer(f"norm{extent}", x.width, extent=extent, private=True)
        operands = {"x": x, "weight": self.vector(name), "out": out}
        self.emit(ops.RMSNORM, operands, extent, width=x.width, epsilon=epsilon)
        return out

    def layernorm(self, x: View, name: str, epsilon: float, out: View | None = None, gain: float = 1.0) -> View:
        """With the bias that the file may have, times `gain`; into a buffer of its own, or into another than x."""
        extent = x.buffer.extent
        if out is None:
            out = self.buffer(f"norm{extent}", x.width, extent=extent, private=True)
        weight, bias = self.vector(name), self._bias((name,))
        if gain != 1.0:
            weight = Constant(f"{name} * {gain}", np.float32(gain) * weight.values)
            bias = bias and Constant(f"{bias.name} * {gain}", np.float32(gain) * bias.values)
        operands = {"x": x, "weight": weight, "bias": bias, "out": out}
        self.emit(ops.LAYERNORM, operands, extent, width=x.width, epsilon=epsilon)
        return out

    def add_rmsnorm(self, x: View, name: str, epsilon: float, out: View) -> None:
        """out += norm of x."""
        operands = {"x": x, "weight": self.vector(name), "out": out}
        self.emit(ops.ADD_RMSNORM, operands, x.buffer.extent, width=x.width, epsilon=epsilon)

    def project(self, x: View, names: tuple[str, ...], out: View | None = None, add: bool = False) -> View:
        """x by the matrices `names`, outputs side by side: in a new buffer, in `out`, or added to `out`."""
        total = sum(self.tensors[name].shape[0] for name in names)
        if out is None:
            out = self.buffer("+".join(name.split(".")[-2] for name in names), total, extent=x.buffer.extent)
        start = 0
        for group in self._runs(names):
            weight = Weight(tuple(self.tensors[name] for name in group), packed=self._is_packed(group[0]))
            target = View(out.buffer, out.start + start, weight.n_rows)
            self._matmul(x, weight, target, ops.ADD if add else ops.STORE, self._bias(group))
            start += weight.n_rows
        return out

    def gated(self, x: View, gate: str, up: str, activation: int = ops.SILU) -> View:
        """activation(x gate) * (x up), in one op where both matrices are packed alike and a matmul can end so."""
        a, b = self.tensors[gate], self.tensors[up]
        out = self.buffer("gated", a.shape[0], extent=x.buffer.extent)
        is_alike = self._is_packed(gate) and (a.type_id, a.shape) == (b.type_id, b.shape)
        if is_alike and activation == ops.SILU and not self._bias((gate, up)):
            self._matmul(x, Weight((a, b), interleaved=True), out, ops.SWIGLU, None)
            return out
        both = self.project(x, (gate, up))
        operands = {"gate_up": both, "out": out}
        sizes = {"pitch": both.width, "out_pitch": out.width, "width": out.width, "activation": activation}
        self.emit(ops.MULTIPLY_SILU, operands, x.buffer.extent, **sizes)
        return out

    def parts(self, name: str, n_parts: int) -> tuple[str, ...]:
        """Names for the matrix `name` cut into so many runs of equal rows, with its bias if it has one."""
        for whole in (name, name.replace(".weight", ".bias")):
            if whole in self.tensors:
                tensor = self.tensors[whole]
                n_rows = tensor.shape[0] // n_parts
                for part in range(n_parts):
                    rows = tensor.rows(part * n_rows, (part + 1) * n_rows)
                    self.tensors[_part_name(whole, part)] = rows
        return tuple(_part_name(name, part) for part in range(n_parts))

    def activate(self, x: View, activation: int) -> None:
        sizes = {"pitch": x.buffer.width, "width": x.width, "activation": activation}
        self.emit(ops.ACTIVATE, {"x": x}, x.buffer.extent, **sizes)

    def soft_cap(self, x: View, cap: float) -> None:
        self.emit(ops.SOFT_CAP, {"x": x}, x.buffer.extent, pitch=x.buffer.width, width=x.width, cap=cap)

    def rope_store(
        self, qkv: View, table: View | None, layer: int, shape: "AttentionShape", pairing: int,
        norms: tuple[str, str] | None = None, epsilon: float = 0.0,
    ) -> None:  # fmt: skip
        """`table`: None for heads that are not rotated. `norms`: of queries and of keys, head by head."""
        query_norm, key_norm = map(self.vector, norms) if norms else (None, None)
        operands = {
            "qkv": qkv, "table": table, "keys": CacheSide(layer, 0), "values": CacheSide(layer, 1),
            "query_norm": query_norm, "key_norm": key_norm,
        }  # fmt: skip
        turn = {"n_pairs": table.width // 2 if table else 0, "pairing": pairing, "epsilon": epsilon}
        self.emit(ops.ROPE_STORE, operands, pitch=qkv.buffer.width, **turn, **shape.sizes())

    def attention(
        self, qkv: View, layer: int, shape: "AttentionShape", scale: float, window: int = 0, soft_cap: float = 0.0,
        slopes: np.ndarray | None = None,
    ) -> View:  # fmt: skip
        """`window`, `soft_cap` and `slopes` (n_heads,): 0 or None for a layer without them."""
        out = self.buffer("attention", shape.n_heads * shape.value_dim)
        partials = self.buffer("partials", self.partial_bytes, BYTES)
        operands = {
            "qkv": qkv, "keys": CacheSide(layer, 0), "values": CacheSide(layer, 1), "out": out, "partials": partials,
            "slopes": None if slopes is None else Constant("slopes", np.ascontiguousarray(slopes, np.float32)),
        }  # fmt: skip
        sizes = {"pitch": qkv.buffer.width, "out_pitch": out.width, "window": window, **shape.sizes()}
        self.emit(ops.ATTENTION, operands, scale=scale, soft_cap=soft_cap, **sizes)
        return out

    def gather(self, x: View) -> View:
        """The rows whose logits are wanted."""
        out = self.buffer("rows", x.width, extent=LOGIT_ROWS)
        self.emit(ops.GATHER, {"x": x, "out": out}, LOGIT_ROWS, width=x.width)
        return out

    def _is_packed(self, name: str) -> bool:
        return self.tensors[name].type_name in self.packed_types

    def _runs(self, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Neighbours that one op can read: packed, of one format, in whole row groups, scaled and biased alike."""
        runs: list[list[str]] = []
        for name in names:
            joined = runs and self._is_packed(name) and self._can_follow(runs[-1][-1], name)
            runs[-1].append(name) if joined else runs.append([name])
        return [tuple(run) for run in runs]

    def _can_follow(self, first: str, second: str) -> bool:
        a, b = self.tensors[first], self.tensors[second]
        return (
            a.type_id == b.type_id
            and a.shape[0] % 32 == 0
            and getattr(a, "scale_columns", 0) == getattr(b, "scale_columns", 0)
            and bool(self._bias((first,))) == bool(self._bias((second,)))
        )

    def _bias(self, names: tuple[str, ...]) -> Constant | None:
        """The biases of matrices side by side, where the file has them."""
        biases = [name.replace(".weight", ".bias") for name in names]
        if not any(name in self.tensors for name in biases):
            return None
        if not all(name in self.tensors for name in biases):
            raise ModelError(f"some of {', '.join(biases)} are missing")
        return Constant(biases[0], np.concatenate([self.vector(name).values for name in biases]))

    def _matmul(self, x: View, weight: Weight, out: View, mode: int, bias: Constant | None) -> None:
        operands = {"weight": weight, "x": self._prepare(x, weight), "out": out, "bias": bias}
        self.emit(
            ops.MATMUL, operands, x.buffer.extent, n_rows=weight.n_rows, n_columns=weight.n_columns,
            pitch=out.buffer.width, mode=mode, row_bytes=weight.row_bytes, scale_columns=weight.scale_columns,
        )  # fmt: skip

    def _prepare(self, x: View, weight: Weight) -> View:
        """x in the form that the weight's format is multiplied with; made once for all that read it."""
        kind = PANEL if weight.type_name in FLOAT_TYPES else QUANTIZED
        if (x, kind) not in self._prepared:
            name = f"{kind}.{x.width}.{x.buffer.extent}"
            out = self.buffer(name, x.width, kind, x.buffer.extent, private=True)
            spec = ops.PANEL if kind == PANEL else ops.QUANTIZE
            self.emit(spec, {"x": x, "out": out}, x.buffer.extent, width=x.width, pitch=x.buffer.width)
            self._prepared = {key: view for key, view in self._prepared.items() if view != out}
            self._prepared[x, kind] = out
        return self._prepared[x, kind]


def _part_name(name: str, part: int) -> str:
    base, _, kind = name.rpartition(".")
    return f"{base}.{part}.{kind}"


@dataclass(frozen=True)
class AttentionShape:
    """Head counts and widths that rope_store and attention share, and how the cache holds keys and values."""

    n_heads: int
    n_kv_heads: int
    key_dim: int
    value_dim: int
    kv_type: str

    @property
    def key_bytes(self) -> int:
        """Of one KV head in one page."""
        return side_bytes(self.key_dim, self.kv_type, is_key=True)

    @property
    def value_bytes(self) -> int:
        """Of one KV head in one page."""
        return side_bytes(self.value_dim, self.kv_type, is_key=False)

    def sizes(self) -> dict[str, int]:
        names = ("n_heads", "n_kv_heads", "key_dim", "value_dim", "key_bytes", "value_bytes")
        return {name: getattr(self, name) for name in names}
