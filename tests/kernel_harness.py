"""Runs compiled kernels by hand: records, workers, guarded memory, and decoders of the layouts that kernels write.

Every record is one op of a small program that `run_program` and `serve` walk, with one worker or several.
"""

import threading

import numpy as np

from edgellama import formats, system
from edgellama.compiler import Kernels
from edgellama.cpu import layout
from edgellama.cpu.layout import BLOCK, N_FIELDS, POOL, WORKER
from edgellama.cpu.packing import LAYOUTS
from edgellama.frame import PAGE_POSITIONS, Frame
from edgellama.ops import BOUND, PANEL, QUANTIZE, TOKENS, OpSpec

ROW_KERNELS = ("kernel_one", "kernel_few", "kernel_many")  # fields of a record
GUARD = 256  # bytes on either side of every output: more than any vector store could overshoot by
POISON = 0xFF  # as float16 and float32 these bytes are NaN


class Guarded:
    """Poisoned memory at a multiple of 64 bytes between two guards."""

    def __init__(self, shape, dtype=np.float32):
        self.n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(self.n_bytes + 2 * GUARD + 64, POISON, np.uint8)
        start = -memory.ctypes.data % 64
        self.memory = memory[start : start + self.n_bytes + 2 * GUARD]
        self.values = self.memory[GUARD : GUARD + self.n_bytes].view(dtype).reshape(shape)
        self.address = self.values.ctypes.data

    @classmethod
    def of(cls, values: np.ndarray) -> "Guarded":
        """A copy of `values`."""
        made = cls(values.shape, values.dtype)
        made.values[...] = values
        return made

    def check(self) -> np.ndarray:
        """The values; fails if a byte around them was written."""
        assert (self.memory[:GUARD] == POISON).all(), "bytes before an output were written"
        assert (self.memory[GUARD + self.n_bytes :] == POISON).all(), "bytes after an output were written"
        return self.values


def simple_frame(n_tokens: int, logit_rows=()) -> Frame:
    """Tokens 0..n_tokens of one sequence whose pages lie in order."""
    n_pages = -(-n_tokens // PAGE_POSITIONS)
    frame = Frame(n_tokens, max(1, len(logit_rows)), 1, 1, n_pages)
    frame.page_table[0] = np.arange(n_pages)
    frame.fill(np.zeros(n_tokens, int), np.arange(n_tokens), np.zeros(n_tokens, int), np.array(logit_rows, int))
    return frame


class Machine:
    """Binds and runs ops on a frame with `n_workers` workers."""

    def __init__(self, kernels: Kernels, frame: Frame, n_workers: int = 1, scratch_bytes: int = 4096):
        self.kernels, self.frame, self.n_workers = kernels, frame, n_workers
        self.scratches = [Guarded(scratch_bytes, np.uint8) for _ in range(n_workers)]
        self.pool, self.workers = Guarded(1, POOL), Guarded(n_workers, WORKER)
        self.workers.values[:] = np.zeros(1, WORKER)  # a private range without bytes: every buffer is shared
        for index, scratch in enumerate(self.scratches):
            worker = self.workers.values[index]
            worker["index"], worker["scratch"], worker["pool"] = index, scratch.address, self.pool.address

    def bind(
        self, spec: OpSpec, operands: dict, integers: dict | None = None, floats: dict | None = None, *,
        kernels: tuple[str, ...] = (), helper: str = "", second_helper: str = "", extent: int = TOKENS,
    ) -> np.ndarray:  # fmt: skip
        """BOUND (1,): operands are arrays, Guarded memory or None.

        `kernels` name those for one row, few and many, or one for all; the default is the op's own name.
        """
        record = np.zeros(1, BOUND)
        for field, name in zip(ROW_KERNELS, 3 * (kernels or (spec.name,)), strict=False):
            record[field] = self.kernels.address(name)
        for field, name in (("helper", helper), ("second_helper", second_helper)):
            record[field] = self.kernels.address(name) if name else 0
        record["extent"], record["barrier_few"], record["barrier_many"] = extent, 1, 1
        _fill(record, spec.operands, spec.operand, {name: _address(value) for name, value in operands.items()}, "<i8")
        _fill(record, spec.integers, spec.integer, integers or {}, "<i8")
        _fill(record, spec.floats, spec.float, floats or {}, "<f4")
        return record

    def run(self, *records: np.ndarray) -> None:
        """Walk these ops in order with all workers, then check what must not change."""
        program = Guarded.of(np.concatenate(records))
        pool = self.pool.values
        pool[:] = np.zeros(1, POOL)
        pool["program"], pool["n_ops"], pool["frame"] = program.address, len(records), self.frame.header.ctypes.data
        pool["spins"] = pool["idle_spins"] = 100
        for name, value in system.wait_settings().items():
            pool[name] = value
        self._walk()
        for memory in (program, self.pool, self.workers, *self.scratches):
            memory.check()
        assert (program.values["counter"] == 0).all()

    def _walk(self) -> None:
        serve, addresses = self.kernels.function("serve", 1), self._worker_addresses()
        threads = [threading.Thread(target=serve, args=(address,)) for address in addresses[1:]]
        for thread in threads:
            thread.start()
        self.kernels.function("run_program", 2)(addresses[0], self.n_workers)
        self.kernels.function("stop_workers", 1)(addresses[0])
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "a worker did not stop"

    def _worker_addresses(self) -> list[int]:
        return [self.workers.address + index * WORKER.itemsize for index in range(self.n_workers)]


def _address(value) -> int:
    if value is None:
        return 0
    return value.address if isinstance(value, Guarded) else value.ctypes.data


def _fill(record: np.ndarray, names, offset_of, values: dict, dtype: str) -> None:
    assert set(values) == set(names), f"{sorted(values)} are not {sorted(names)}"
    for name, value in values.items():
        at = offset_of(name)
        record.view(np.uint8)[at : at + np.dtype(dtype).itemsize].view(dtype)[0] = value


def decode_panels(data: np.ndarray, n_columns: int, n_rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantized bytes -> int8 (n_rows, n_columns) and fields as int32 bits (n_rows, n_blocks, N_FIELDS)."""
    size = layout.panel_bytes(n_columns, tokens)
    panels = data[: -(-n_rows // tokens) * size].reshape(-1, size)
    integers = panels[:, : n_columns * tokens].reshape(-1, n_columns // 4, tokens, 4).view(np.int8)
    fields = np.ascontiguousarray(panels[:, n_columns * tokens :]).view(np.int32)
    fields = fields.reshape(-1, n_columns // BLOCK, N_FIELDS, tokens)
    rows = integers.transpose(0, 2, 1, 3).reshape(-1, n_columns)
    return rows[:n_rows], fields.transpose(0, 3, 1, 2).reshape(-1, n_columns // BLOCK, N_FIELDS)[:n_rows]


def decode_float_panels(data: np.ndarray, n_columns: int, n_rows: int, tokens: int) -> np.ndarray:
    """float32 panels -> (n_rows, n_columns)."""
    panels = data[: -(-n_rows // tokens) * n_columns * tokens].reshape(-1, n_columns, tokens)
    return panels.transpose(0, 2, 1).reshape(-1, n_columns)[:n_rows]


def panel_tokens(kernels: Kernels, n_rows: int) -> int:
    """Tokens in one panel of a buffer of n_rows rows."""
    return 1 if n_rows == 1 else kernels.target.tile_tokens


def quantized_panels(kernels: Kernels, x: Guarded, n_workers: int = 1, width: int = 0) -> Guarded:
    """The first `width` columns (default: all) of x (n_rows, pitch) as the quantize kernel leaves them."""
    (n_rows, pitch), tokens = x.values.shape, panel_tokens(kernels, len(x.values))
    width = width or pitch
    out = Guarded(-(-n_rows // tokens) * layout.panel_bytes(width, tokens), np.uint8)
    machine = Machine(kernels, simple_frame(n_rows), n_workers)
    machine.run(machine.bind(QUANTIZE, {"x": x, "out": out}, {"width": width, "pitch": pitch}))
    out.check()
    return out


def float_panels(kernels: Kernels, x: Guarded, n_workers: int = 1, width: int = 0) -> Guarded:
    """The first `width` columns (default: all) of x (n_rows, pitch) as the panel kernel leaves them."""
    (n_rows, pitch), tokens = x.values.shape, panel_tokens(kernels, len(x.values))
    width = width or pitch
    out = Guarded(-(-n_rows // tokens) * width * tokens)
    machine = Machine(kernels, simple_frame(n_rows), n_workers)
    machine.run(machine.bind(PANEL, {"x": x, "out": out}, {"width": width, "pitch": pitch}))
    out.check()
    return out


def random_weights(name: str, n_rows: int, n_columns: int, seed: int = 0) -> np.ndarray:
    """Random rows of a format, uint8 (n_rows, row bytes): every code occurs, float fields are small numbers."""
    random, block_format = np.random.default_rng(seed), formats.by_name(name)
    if block_format.block_values == 1:
        return block_format.encode(random.standard_normal((n_rows, n_columns), dtype=np.float32))
    data = random.integers(0, 256, (n_rows, block_format.row_bytes(n_columns)), dtype=np.uint8)
    blocks = data.reshape(-1).view(block_format.dtype)
    for field in {"scale", "offset", "minimum_scale"} & set(block_format.dtype.names):
        blocks[field] = random.uniform(-0.02, 0.02, len(blocks))
    return data


def pack(kernels: Kernels, name: str, *matrices: np.ndarray) -> Guarded:
    """One matrix uint8 (n_rows, row bytes) in packed groups, or two of them interleaved."""
    packed_layout, interleaved = LAYOUTS[name], len(matrices) == 2
    low = np.ascontiguousarray(matrices[0])
    n_rows, row_bytes = low.shape
    high_address = matrices[1].ctypes.data if interleaved else low.ctypes.data + 16 * row_bytes
    stride, high_rows = (16, n_rows) if interleaved else (32, n_rows - 16)
    n_groups, n_blocks = -(-n_rows // stride), row_bytes // packed_layout.block_bytes
    target = Guarded(n_groups * n_blocks * packed_layout.pair_bytes, np.uint8)
    order = np.array(packed_layout.words, np.int32)
    kernels.function("pack_groups", 15)(
        low.ctypes.data, high_address, n_rows, high_rows, stride, row_bytes, packed_layout.block_bytes, n_blocks,
        len(order), order.ctypes.data, packed_layout.unit_offset, packed_layout.mask,
        target.address, 0, n_groups,
    )  # fmt: skip
    target.check()
    return target
