"""GGUF matrices into the packed layout that the fast kernels stream through; the bits stay, only their places change.

cpu/kernels/pack.py describes a packed group. A layout here says how a format's block falls into 4-byte words and one
2-byte unit. Packing runs matrix by matrix on all workers, and gives the file's pages back as it goes.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .. import system
from ..gguf.tensor_table import TensorInfo
from ..program import Weight
from .layout import GROUP_ROWS

_SPLIT = 1 << 20  # bytes of source per task: enough to share, small enough to give pages back soon


@dataclass(frozen=True)
class PackedLayout:
    """Where a block's words and its 2-byte unit lie (-1: none), what to flip in the words; which product reads it."""

    block_bytes: int
    columns: int
    words: tuple[int, ...]  # byte offsets in the block, in the order in which kernels read them
    unit_offset: int
    product: str
    mask: int = 0

    @property
    def pair_bytes(self) -> int:
        """Bytes of one block of 32 rows."""
        return 2 * 64 * len(self.words) + (64 if self.unit_offset >= 0 else 0)


def _in_order(n_words: int, offset: int = 0) -> tuple[int, ...]:
    return tuple(range(offset, offset + 4 * n_words, 4))


def _q6_k_words() -> tuple[int, ...]:
    """As cpu/kernels/k_blocks.py reads them: for each side scales, then nibbles and upper bits in turn, then nibbles.

    Out of this order the memory does not stream: 11 GB/s were measured where it gives 33.
    """
    nibbles, upper, scales = _in_order(32), _in_order(16, 128), _in_order(4, 192)
    words: list[int] = []
    for side in range(2):
        low, bits = nibbles[16 * side : 16 * side + 16], upper[8 * side : 8 * side + 8]
        words += scales[2 * side : 2 * side + 2]
        words += [word for pair in zip(low[:8], bits, strict=True) for word in pair]
        words += low[8:]
    return tuple(words)


LAYOUTS = {
    "q4_0": PackedLayout(18, 32, _in_order(4, 2), 0, "zero_8"),
    "q4_1": PackedLayout(20, 32, _in_order(5), -1, "minimum"),
    "q8_0": PackedLayout(34, 32, _in_order(8, 2), 0, "zero_128", mask=0x80808080),
    "q4_k": PackedLayout(144, 256, _in_order(36), -1, "minimum"),
    "q5_k": PackedLayout(176, 256, _in_order(44), -1, "minimum"),
    "q6_k": PackedLayout(210, 256, _q6_k_words(), 208, "zero_32_by_16"),
    "f16": PackedLayout(2, 1, (), 0, "float"),
    "bf16": PackedLayout(2, 1, (), 0, "float"),
    "f32": PackedLayout(4, 1, (0,), -1, "float"),
}


@dataclass(frozen=True)
class _Run:
    """Groups of one weight that one call packs: halves from `low` and `high`, written at `target`."""

    low: int
    high: int
    low_rows: int
    high_rows: int
    stride: int
    target: int
    n_groups: int


def packed_bytes(weight: Weight) -> int:
    """Bytes of the packed form: those of the file, rows rounded up to whole groups."""
    rows_per_group = GROUP_ROWS // 2 if weight.interleaved else GROUP_ROWS
    tensors = weight.tensors[:1] if weight.interleaved else weight.tensors
    groups = sum(-(-tensor.shape[0] // rows_per_group) for tensor in tensors)
    layout = LAYOUTS[weight.type_name]
    return groups * (weight.n_columns // layout.columns) * layout.pair_bytes


def _runs(weight: Weight, target: int) -> list[tuple[TensorInfo, _Run]]:
    layout = LAYOUTS[weight.type_name]
    group_bytes = weight.n_columns // layout.columns * layout.pair_bytes
    if weight.interleaved:
        low, high = weight.tensors
        rows = low.shape[0]
        return [(low, _Run(low.address, high.address, rows, rows, 16, target, -(-rows // 16)))]
    runs = []
    for tensor in weight.tensors:
        rows, source = tensor.shape[0], tensor.address
        n_groups = -(-rows // GROUP_ROWS)
        runs.append((tensor, _Run(source, source + 16 * weight.row_bytes, rows, rows - 16, 32, target, n_groups)))
        target += n_groups * group_bytes
    return runs


class Packer:
    """Packs weights with `pack_groups` on `n_threads` threads."""

    def __init__(self, kernels, n_threads: int):
        self.pack_groups = kernels.function("pack_groups", 15)
        self.n_threads = n_threads

    def pack(self, weight: Weight, target: np.ndarray) -> None:
        """Fill `target`, uint8 (packed_bytes(weight),) aligned to 64 bytes."""
        layout = LAYOUTS[weight.type_name]
        n_blocks, order = weight.n_columns // layout.columns, np.array(layout.words, np.int32)
        tasks = []
        for _, run in _runs(weight, target.ctypes.data):
            step = max(1, _SPLIT // (GROUP_ROWS * weight.row_bytes))
            for first in range(0, run.n_groups, step):
                tasks.append((run, first, min(first + step, run.n_groups)))

        def pack_some(task: tuple[_Run, int, int]) -> None:
            run, first, end = task
            self._touch(weight, run, first, end)
            self.pack_groups(
                run.low, run.high, run.low_rows, run.high_rows, run.stride, weight.row_bytes, layout.block_bytes,
                n_blocks, len(order), order.ctypes.data, layout.unit_offset, layout.mask, run.target, first, end,
            )  # fmt: skip

        with ThreadPoolExecutor(self.n_threads) as pool:
            list(pool.map(pack_some, tasks))
        for tensor in weight.tensors:
            system.advise_dontneed(tensor.address, tensor.n_bytes)

    @staticmethod
    def _touch(weight: Weight, run: _Run, first: int, end: int) -> None:
        """Map the pages of the rows to come in one call each, instead of a fault per page."""
        starts = (run.low, run.high) if weight.interleaved else (run.low,)
        for start in starts:
            n_rows = min(run.stride * end, run.low_rows) - run.stride * first
            system.populate_read(start + run.stride * first * weight.row_bytes, n_rows * weight.row_bytes)
