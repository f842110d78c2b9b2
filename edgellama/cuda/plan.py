"""A Program as launches of kernels on one GPU.

What the CPU's workers each do for themselves, a norm and what turns its result into the form that products take, is no
launch of its own here: with one row it is the beginning of the product's kernel, with more one kernel does both
(prepare). A Planner writes the launches for one row or for many; both read and write the same buffers.
"""

from .. import ops
from ..errors import ModelError
from ..ops import LOGIT_ROWS
from ..program import CacheSide, Constant, Op, Program, View
from .launch import Arguments
from .norm_folding import folded_norms
from .steps import Places, Source, Step, padded_columns, rows_of
from .weights import FORMATS, DeviceMatrix

PARTS_PER_MULTIPROCESSOR = 2  # blocks that share the positions of all KV heads, at most
FEW_TOKENS = 8  # up to here each token's attention is a row of blocks of its own
SEGMENT = 64
MATVEC_THREADS, GEMM_THREADS, GEMM_TOKENS, GEMM_ROWS, GEMM_SHARED_BYTES = 512, 256, 128, 128, 65536
ATTENTION_THREADS, PREFILL_THREADS = 256, 128
ATTENTION_SIZES = (
    "pitch", "out_pitch", "n_heads", "n_kv_heads", "key_dim", "value_dim", "key_bytes", "value_bytes", "window",
)  # fmt: skip


class Planner:
    """Writes the steps of a program's ops for one row (`is_one`) or many."""

    def __init__(self, program: Program, places: Places, is_one: bool):
        self.program, self.places, self.is_one = program, places, is_one
        self.steps: list[Step] = []
        self._sources: dict = {}  # buffer -> Source
        self._prepared: tuple | None = None  # what the halves hold
        self._rope: Op | None = None
        self._folded = folded_norms(program)

    def plan(self, program_ops: list[Op]) -> list[Step]:
        """The steps of these ops; those of earlier calls are known to it."""
        self.steps = []
        for op in program_ops:
            writer = getattr(self, f"_{op.spec.name}", None)
            if writer is None:
                raise ModelError(f"the GPU has no kernel for {op.spec.name}, which this model needs: use --device cpu")
            writer(op)
        return self.steps

    def address(self, operand: View | Constant | CacheSide | None) -> int:
        """Of a view, constant or cache side; 0 for None."""
        if isinstance(operand, View):
            return self.places.buffers[operand.buffer] + 4 * operand.start
        if isinstance(operand, Constant):
            return self.places.constants[operand]
        return self.places.caches[operand] if isinstance(operand, CacheSide) else 0

    def _add(self, kernel, values, n_threads, blocks, shared_bytes=0, counted=(), extent=ops.TOKENS, **options):
        typed = [("f32" if isinstance(value, float) else "i64", value) for value in values]
        step = Step(kernel, Arguments(*typed), n_threads, blocks, shared_bytes, counted, extent, **options)
        self.steps.append(step)
        self._prepared = None if kernel != "prepare" else self._prepared

    def _per_row(self, kernel, values, extent, n_threads=256, shared_bytes=0):
        self._add(kernel, values, n_threads, lambda counts: rows_of(counts, extent), shared_bytes, extent=extent)

    def _rope_table(self, op: Op) -> None:
        table, frequencies = self.address(op.operands["table"]), self.address(op.operands["inverse_frequencies"])
        positions = [self.places.frame[name] for name in ("positions", "second_positions")]
        counts = [op.integers[name] for name in ("n_pairs", "n_second")]
        values = [frequencies, *positions, table, *counts, op.floats["magnitude"]]
        self._per_row("rope_table", values, op.extent, 128)

    def _embed(self, op: Op) -> None:
        matrix = self.places.matrices[op.operands["table"]]
        values = [
            *matrix.places, self.places.frame["token_ids"], self.address(op.operands["out"]),
            op.integers["width"], matrix.n_blocks, op.floats["scale"],
        ]  # fmt: skip
        rows = -(-matrix.n_blocks // 128)
        self._add(f"embed_{matrix.kind}", values, 128, lambda counts: (counts.n_tokens, rows, 1))

    def _add_positions(self, op: Op) -> None:
        x, table = self.address(op.operands["x"]), self.address(op.operands["table"])
        self._per_row("add_positions", [x, table, self.places.frame["positions"], op.integers["width"]], op.extent)

    def _rmsnorm(self, op: Op) -> None:
        """Part of the products that read it, where only products do."""
        source = Source(op.operands["x"], op.operands["weight"], op.floats["epsilon"])
        if op in self._folded:
            self._sources[op.operands["out"]] = source
        else:
            self._norm_rows(source, self.address(op.operands["out"]), op.operands["out"].buffer.width, op.extent)
            self._sources.pop(op.operands["out"], None)

    def _add_rmsnorm(self, op: Op) -> None:
        source, out = Source(op.operands["x"], op.operands["weight"], op.floats["epsilon"]), op.operands["out"]
        self._norm_rows(source, self.address(out), out.buffer.width, op.extent, adds=1)

    def _norm_rows(self, source: Source, out: int, out_pitch: int, extent: int, adds: int = 0) -> None:
        x = self._resolve(source).view
        values = [self.address(x), self.address(source.norm), out, x.width, x.buffer.width, out_pitch, adds]
        self._per_row("norm_rows", [*values, source.epsilon], extent, shared_bytes=128)

    def _layernorm(self, op: Op) -> None:
        x, out = self._resolve(Source(op.operands["x"], None, 0.0)).view, op.operands["out"]
        addresses = [self.address(item) for item in (x, op.operands["weight"], op.operands["bias"], out)]
        sizes = [op.integers["width"], x.buffer.width, out.buffer.width, op.floats["epsilon"]]
        self._per_row("layer_norm", [*addresses, *sizes], op.extent, shared_bytes=128)
        self._sources.pop(out, None)

    def _activate(self, op: Op) -> None:
        sizes = [op.integers[name] for name in ("pitch", "width", "activation")]
        self._per_row("activate", [self.address(op.operands["x"]), *sizes], op.extent)

    def _soft_cap(self, op: Op) -> None:
        sizes = [op.integers[name] for name in ("pitch", "width")]
        self._per_row("soft_cap", [self.address(op.operands["x"]), *sizes, op.floats["cap"]], op.extent)

    def _quantize(self, op: Op) -> None:
        x = op.operands["x"]
        self._sources[op.operands["out"]] = self._sources.get(x, Source(x, None, 0.0))

    _panel = _quantize

    def _gather(self, op: Op) -> None:
        x, out = op.operands["x"], op.operands["out"]
        if self.is_one:  # one token: its row is the row
            self._sources[out] = Source(x, None, 0.0)
            return
        values = [
            self.address(x), self.places.frame["logit_rows"], self.address(out), op.integers["width"], x.buffer.width,
        ]  # fmt: skip
        self._per_row("gather", values, LOGIT_ROWS)

    def _multiply_silu(self, op: Op) -> None:
        counts = [op.integers[name] for name in ("pitch", "out_pitch", "width", "activation")]
        views = [self.address(op.operands[name]) for name in ("gate_up", "out")]
        self._per_row("multiply_silu", [*views, *counts], op.extent)

    def _matmul(self, op: Op) -> None:
        source = self._resolve(self._sources[op.operands["x"]])
        matrix = self.places.matrices[op.operands["weight"]]
        self._matvec(op, source, matrix) if self.is_one else self._gemm(op, source, matrix)

    def _resolve(self, source: Source) -> Source:
        """Follow a gather of one row."""
        before = self._sources.get(source.view)
        return source if before is None else Source(before.view, source.norm, source.epsilon)

    def _matvec(self, op: Op, source: Source, matrix: DeviceMatrix) -> None:
        mode, out = op.integers["mode"], self.address(op.operands["out"])
        form = FORMATS[matrix.kind]
        shared_bytes = matrix.n_blocks * (48 if form.is_integer else 128) + 128
        x, norm = self.address(source.view), self.address(source.norm)
        sizes = (matrix.n_rows, matrix.n_columns)
        if mode == ops.SWIGLU:
            kernel, n_warps = f"gated_{matrix.kind}", -(-matrix.n_rows // 2)
            values = [*matrix.places, x, norm, out, *sizes, source.epsilon]
        else:
            kernel, n_warps = f"matvec_{matrix.kind}", matrix.n_rows
            bias = self.address(op.operands["bias"])
            values = [*matrix.places, x, norm, bias, out, *sizes, mode, source.epsilon]
        most = self.places.matvec_blocks(kernel, shared_bytes)
        n_blocks = min(most, -(-n_warps // (MATVEC_THREADS // 32)))
        self._add(kernel, values, MATVEC_THREADS, lambda counts: n_blocks, shared_bytes, extent=op.extent)

    def _gemm(self, op: Op, source: Source, matrix: DeviceMatrix) -> None:
        padded, extent = padded_columns(matrix.n_columns), op.extent
        self._prepare(source, matrix, padded, extent)
        values = [
            *matrix.places, self.places.halves, self.places.powers, self.address(op.operands["bias"]),
            self.address(op.operands["out"]), matrix.n_rows, matrix.n_blocks, 0, padded, op.integers["pitch"],
            op.integers["mode"],
        ]  # fmt: skip
        row_tiles = -(-matrix.n_rows // GEMM_ROWS)
        prepared = self._prepared
        self._add(
            f"gemm_{matrix.kind}", values, GEMM_THREADS,
            lambda counts: (-(-rows_of(counts, extent) // GEMM_TOKENS), row_tiles, 1),
            GEMM_SHARED_BYTES, counted=(10,), extent=extent,
        )  # fmt: skip
        written = op.operands["out"]
        self._prepared = None if written.overlaps(source.view) else prepared

    def _prepare(self, source: Source, matrix: DeviceMatrix, padded: int, extent: int) -> None:
        """Rows of activations as halves, unless the product before had the same."""
        is_integer = FORMATS[matrix.kind].is_integer
        key = (source, is_integer, padded)
        if self._prepared == key:
            return
        x = source.view
        values = [
            self.address(x), self.address(source.norm), self.places.halves, self.places.powers, matrix.n_columns,
            x.buffer.width, padded, int(is_integer), source.epsilon,
        ]  # fmt: skip
        self._per_row("prepare", values, extent, shared_bytes=128)
        self._prepared = key

    def _rope_store(self, op: Op) -> None:
        """With one token, attention does it."""
        self._rope = op
        if self.is_one:
            return
        names = ("pitch", "n_heads", "n_kv_heads", "key_dim", "value_dim", "key_bytes", "value_bytes", "n_pairs")
        operands = ("qkv", "table", "keys", "values", "query_norm", "key_norm")
        addresses = [self.address(op.operands[name]) for name in operands]
        values = [*addresses, self.places.frame["cache_rows"], *(op.integers[name] for name in (*names, "pairing"))]
        values.append(op.floats["epsilon"])
        n_heads = op.integers["n_heads"] + 2 * op.integers["n_kv_heads"]
        self._add("rope_store", values, 256, lambda counts: (counts.n_tokens, n_heads, 1))

    def _attention(self, op: Op) -> None:
        self._attention_decode(op)
        if not self.is_one:
            self.steps[-1].needed = lambda counts: counts.n_tokens <= FEW_TOKENS
            self._attention_prefill(op)
            self.steps[-1].needed = lambda counts: counts.n_tokens > FEW_TOKENS

    def _attention_decode(self, op: Op) -> None:
        frame, n, rope = self.places.frame, op.integers, self._rope
        addresses = [self.address(op.operands["qkv"]), self.address(rope.operands["table"])]
        addresses += [self.address(op.operands[name]) for name in ("keys", "values")]
        addresses += [self.address(rope.operands[name]) for name in ("query_norm", "key_norm")]
        addresses += [self.address(op.operands[name]) for name in ("slopes", "out")]
        addresses += [self.places.parts, self.places.counters]
        addresses += [frame[name] for name in ("slots", "cache_rows", "visible", "page_table")]
        values = [*addresses, self.places.pages_per_slot, *(n[name] for name in ATTENTION_SIZES)]
        values += [rope.integers["n_pairs"], rope.integers["pairing"], int(self.is_one), rope.floats["epsilon"]]
        values += [op.floats["scale"], op.floats["soft_cap"]]
        group, width = n["n_heads"] // n["n_kv_heads"], -(-n["value_dim"] // 16) * 16
        shared = 2 * SEGMENT * (n["key_dim"] + width) + group * (4 * n["key_dim"] + 4 * SEGMENT + 4 * width + 16)
        parts = attention_parts(self.places.n_multiprocessors, n["n_kv_heads"], self.places.pages_per_slot)
        blocks = (parts, n["n_kv_heads"])
        self._add("attention_decode", values, ATTENTION_THREADS, lambda counts: (*blocks, counts.n_tokens), shared)

    def _attention_prefill(self, op: Op) -> None:
        frame, n = self.places.frame, op.integers
        addresses = [self.address(op.operands[name]) for name in ("qkv", "keys", "values", "slopes", "out")]
        addresses += [frame[name] for name in ("tiles", "slots", "visible", "page_table")]
        values = [*addresses, self.places.pages_per_slot, *(n[name] for name in ATTENTION_SIZES)]
        values += [op.floats["scale"], op.floats["soft_cap"]]
        padded, chunks = -(-n["key_dim"] // 16) * 16, -(-n["value_dim"] // 64)
        shared = 64 * (2 * padded + 16) + 128 * padded + 64 * 144
        n_heads = n["n_heads"]
        self._add(
            "attention_prefill", values, PREFILL_THREADS, lambda counts: (counts.n_tiles, n_heads, chunks), shared
        )

    def hidden_rows(self, hidden: View, out: int) -> list[Step]:
        """The steps that write what the output matrix is applied to to memory; its norm must have been planned."""
        self.steps = []
        source = self._sources.get(hidden, Source(hidden, None, 0.0))
        self._norm_rows(source, out, hidden.width, LOGIT_ROWS)
        return self.steps


def attention_parts(n_multiprocessors: int, n_kv_heads: int, pages_per_slot: int) -> int:
    """Blocks that share one KV head's positions in decode."""
    most = max(1, PARTS_PER_MULTIPROCESSOR * n_multiprocessors // n_kv_heads)
    return min(most, 4 * pages_per_slot)


def part_bytes(program: Program, n_multiprocessors: int, pages_per_slot: int) -> int:
    """Memory for the parts of FEW_TOKENS tokens."""
    shape = program.attention
    width = -(-shape.value_dim // 16) * 16
    n_parts = attention_parts(n_multiprocessors, shape.n_kv_heads, pages_per_slot)
    return 4 * FEW_TOKENS * n_parts * shape.n_heads * (width + 2)


def split_at_logit_rows(program: Program) -> tuple[list[Op], list[Op]]:
    """The ops before and from the first that covers the rows whose logits are wanted."""
    first = next(index for index, op in enumerate(program.ops) if op.extent == LOGIT_ROWS)
    return program.ops[:first], program.ops[first:]
