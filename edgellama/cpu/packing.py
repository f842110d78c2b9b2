"""GGUF matrices into the packed layout that the fast kernels stream through; the bits stay, only their places change.

cpu/kernels/pack.py describes a packed group. A layout here says how a format's block falls into 4-byte words and one
2-byte unit. Packing runs matrix by matrix on all workers, and gives the file's pages back as it goes.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .. import system
from ..fp8 import check_codes
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
    "fp8_e4m3": PackedLayout(4, 4, (0,), -1, "fp8"),
    "fp8_e5m2": PackedLayout(4, 4, (0,), -1, "fp8"),
}
ALWAYS_PACKED = frozenset({"fp8_e4m3", "fp8_e5m2"})  # no kernel reads them as they lie in the file


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
    """Bytes of the packed form: those of the file, rows rounded up to whole groups; then scales, if it has any."""
    return _code_bytes(weight) + 4 * GROUP_ROWS * _group_count(weight) * _scale_runs(weight)


def _group_count(weight: Weight) -> int:
    rows_per_group = GROUP_ROWS // 2 if weight.interleaved else GROUP_ROWS
    tensors = weight.tensors[:1] if weight.interleaved else weight.tensors
    return sum(-(-tensor.shape[0] // rows_per_group) for tensor in tensors)


def _code_bytes(weight: Weight) -> int:
    layout = LAYOUTS[weight.type_name]
    return _group_count(weight) * (weight.n_columns // layout.columns) * layout.pair_bytes


def _scale_runs(weight: Weight) -> int:
    """Runs of columns that share a scale; 0 where scales are part of the blocks."""
    return -(-weight.n_columns // weight.scale_columns) if weight.scale_columns else 0


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
        if weight.scale_columns:
            with ThreadPoolExecutor(self.n_threads) as pool:
                list(pool.map(_check_fp8, weight.tensors))
            _pack_scales(weight, target[_code_bytes(weight) :].view(np.float32))
        for tensor in weight.tensors:
            system.advise_dontneed(tensor.address, tensor.n_bytes)

    @staticmethod
    def _touch(weight: Weight, run: _Run, first: int, end: int) -> None:
        """Map the pages of the rows to come in one call each, instead of a fault per page."""
        starts = (run.low, run.high) if weight.interleaved else (run.low,)
        for start in starts:
            n_rows = min(run.stride * end, run.low_rows) - run.stride * first
            system.populate_read(start + run.stride * first * weight.row_bytes, n_rows * weight.row_bytes)


def _check_fp8(tensor: TensorInfo) -> None:
    """Refuse codes that are no numbers, while they are still in memory."""
    codes = tensor.data
    for first in range(0, len(codes), _SPLIT):
        check_codes(tensor, codes[first : first + _SPLIT])


def _pack_scales(weight: Weight, target: np.ndarray) -> None:
    """float32 [group][runs][32 rows] of an FP8 weight; rows that do not exist get zero."""
    scales = target.reshape(_group_count(weight), _scale_runs(weight), GROUP_ROWS)
    scales[:] = 0
    if weight.interleaved:
        for half, tensor in enumerate(weight.tensors):
            _place_scales(scales[:, :, 16 * half : 16 * half + 16], tensor.scales)
        return
    first = 0
    for tensor in weight.tensors:
        n_groups = -(-tensor.shape[0] // GROUP_ROWS)
        _place_scales(scales[first : first + n_groups], tensor.scales)
        first += n_groups


def _place_scales(target: np.ndarray, rows: np.ndarray) -> None:
    """rows (n_rows, runs) into target (n_groups, runs, rows of a group)."""
    n_groups, _, width = target.shape
    padded_rows = np.zeros((n_groups * width, rows.shape[1]), np.float32)
    padded_rows[: len(rows)] = rows
    target[:] = padded_rows.reshape(n_groups, width, -1).transpose(0, 2, 1)
