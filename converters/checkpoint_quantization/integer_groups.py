"""Weights of integers in groups: value = scale * (code - zero), with one scale and zero for each group of columns.

Their codes fit GGUF's blocks of 32 as they are, if no block has columns of two groups:

    Q4_0    scale * (code - 8)         2 to 4 bits where code - zero + 8 is within 0..15: zero 8 for 4 bits
    Q4_1    scale * code + minimum     2 to 4 bits else, with minimum = -scale * zero
    Q8_0    scale * code               8 bits with zero 128

Scales and minima become float16. Nothing else is rounded.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgellama import formats

from ..lazy_tensor import LazyTensor, Numbers, SelectableTensor, selectable
from ..stored_types import F32, StoredType

_BLOCK_VALUES = 32
_BLOCKS = np.dtype([("scale", "<f4"), ("zero", "<f4"), ("codes", "u1", _BLOCK_VALUES)])
_SURVEYED_GROUPS = 1 << 19  # read at once
_NO_BLOCKS = {2: "q6_k", 3: "q6_k", 4: "q6_k", 8: "q8_0"}  # how weights that no block fits are quantized again


@dataclass(frozen=True)
class Rounding:
    """What float16 adds to the values of a tensor, in steps from code to code, over all codes of all groups."""

    largest: float
    mean_square: float


@dataclass(frozen=True)
class GroupedType(StoredType):
    """Integers in groups; `rounding` is what keeping them as blocks costs, `obstacle` why no block can hold them."""

    rounding: Rounding = Rounding(0.0, 0.0)
    obstacle: str = ""


@dataclass(frozen=True)
class ColumnOrdered(SelectableTensor):
    """A weight whose groups are scattered over the columns; column i of `gathered` is its column order[i]."""

    gathered: LazyTensor
    order: NDArray[np.intp]


@dataclass(frozen=True)
class IntegerGroups:
    """Codes (n_rows, n_columns) of `bits` bits, scales and zeros (n_rows, n_groups); group_of (n_columns,)."""

    codes: LazyTensor
    scales: LazyTensor
    zeros: LazyTensor
    bits: int
    group_of: NDArray[np.intp]

    def weight(self) -> LazyTensor:
        """The weight: in blocks where they fit, a ColumnOrdered where they would in another order, else as float32."""
        if _fill_blocks(self.group_of):
            return self._in_blocks(None)
        order = np.argsort(self.group_of, kind="stable")
        if not _fill_blocks(self.group_of[order]):
            return self._plain("their groups fill no blocks of 32 columns")
        plain = self._plain("their groups are in the order of activations (desc_act)")
        return ColumnOrdered(plain.shape, plain.stored, plain.raw, plain.read, self._in_blocks(order), order)

    def _plain(self, obstacle: str) -> SelectableTensor:
        def select(rows: Numbers) -> NDArray[np.float32]:
            values = self.codes.select(rows).astype(np.float32)
            values -= self.zeros.select(rows)[:, self.group_of]
            values *= self.scales.stored.widen(self.scales.select(rows))[:, self.group_of]
            return values

        stored = GroupedType(self._name, F32.dtype, F32.widen, {}, _NO_BLOCKS[self.bits], obstacle=obstacle)
        return selectable(self.codes.shape, stored, select)

    def _in_blocks(self, order: NDArray[np.intp] | None) -> LazyTensor:
        """Rows of _BLOCKS; `order` is that of the columns."""
        groups = (self.group_of if order is None else self.group_of[order])[::_BLOCK_VALUES]

        def select(rows: Numbers) -> NDArray:
            found = self.codes.select(rows) if order is None else self.codes.select(rows)[:, order]
            blocks = np.empty((len(found), len(groups)), _BLOCKS)
            blocks["codes"] = found.reshape(*blocks.shape, _BLOCK_VALUES)
            blocks["scale"] = self.scales.stored.widen(self.scales.select(rows))[:, groups]
            blocks["zero"] = self.zeros.select(rows)[:, groups]
            return blocks

        return selectable(self.codes.shape, self._stored(), select)

    @property
    def _name(self) -> str:
        return f"int{self.bits} in groups"

    def _stored(self) -> GroupedType:
        """The type by what the zeros of the whole tensor allow."""
        low, high, rounding_of_scale, rounding_with_minimum = self._survey()
        if self.bits == 8:
            if (low, high) != (128, 128):
                return GroupedType(self._name, _BLOCKS, _widen, {}, "q8_0", obstacle="Q8_0 has no zero but 128")
            return GroupedType(self._name, _BLOCKS, _widen, {"q8_0": _as_q8_0}, "q8_0", rounding_of_scale)
        if high <= 8 and (1 << self.bits) - 1 - low <= 7:
            kept = {"q4_0": _as_q4_0, "q4_1": _as_q4_1}
            return GroupedType(self._name, _BLOCKS, _widen, kept, "q4_0", rounding_of_scale)
        return GroupedType(self._name, _BLOCKS, _widen, {"q4_1": _as_q4_1}, "q4_1", rounding_with_minimum)

    def _survey(self) -> tuple[int, int, Rounding, Rounding]:
        """(lowest zero, highest zero, what rounding the scales costs, what rounding scales and minima costs)."""
        step = max(1, _SURVEYED_GROUPS // self.scales.row_values)
        low, high, sums = 256, 0, [_RoundingSum(self.bits), _RoundingSum(self.bits)]
        for start in range(0, self.scales.n_rows, step):
            stop = min(start + step, self.scales.n_rows)
            zeros, scales = self.zeros.rows(start, stop), self.scales.rows(start, stop)
            low, high = min(low, int(zeros.min())), max(high, int(zeros.max()))
            sums[0].add(scales, -zeros * _half(scales), -zeros * scales)
            sums[1].add(scales, _half(-zeros * scales), -zeros * scales)
        return low, high, sums[0].rounding, sums[1].rounding


class _RoundingSum:
    """Adds up what rounding costs: with scale s' for s and minimum m' for m, code q is off by q (s' - s) + m' - m."""

    def __init__(self, bits: int):
        codes = np.arange(1 << bits)
        self.last, self.mean, self.mean_square = codes[-1], codes.mean(), (codes**2).mean()
        self.largest = self.total = self.count = 0.0

    def add(self, scales: NDArray[np.float32], minima: NDArray[np.float32], exact_minima: NDArray[np.float32]) -> None:
        with np.errstate(all="ignore"):  # what is not finite is found when it is written
            step = np.where(scales == 0, np.float32(1), np.abs(scales))
            slope, offset = (_half(scales) - scales) / step, (minima - exact_minima) / step
            squares = slope**2 * self.mean_square + 2 * slope * offset * self.mean + offset**2
            self.largest = max(
                self.largest, float(np.abs(offset).max()), float(np.abs(offset + slope * self.last).max())
            )
        self.total += float(squares.sum(dtype=np.float64))
        self.count += squares.size

    @property
    def rounding(self) -> Rounding:
        return Rounding(self.largest, self.total / max(self.count, 1))


def _fill_blocks(group_of: NDArray[np.intp]) -> bool:
    """Whether every run of 32 columns belongs to one group."""
    if len(group_of) % _BLOCK_VALUES:
        return False
    runs = group_of.reshape(-1, _BLOCK_VALUES)
    return bool((runs == runs[:, :1]).all())


def _half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _widen(blocks: NDArray) -> NDArray[np.float32]:
    values = blocks["codes"].astype(np.float32)
    values -= blocks["zero"][..., None]
    values *= blocks["scale"][..., None]
    return values.reshape(len(blocks), -1)


def _as_q4_0(blocks: NDArray) -> NDArray[np.uint8]:
    codes = blocks["codes"] + (8 - blocks["zero"]).astype(np.int8).view(np.uint8)[..., None]
    return _bytes("q4_0", blocks, codes=_nibbles(codes))


def _as_q4_1(blocks: NDArray) -> NDArray[np.uint8]:
    return _bytes("q4_1", blocks, offset=-blocks["scale"] * blocks["zero"], codes=_nibbles(blocks["codes"]))


def _as_q8_0(blocks: NDArray) -> NDArray[np.uint8]:
    return _bytes("q8_0", blocks, codes=(blocks["codes"] ^ np.uint8(128)).view(np.int8))


def _nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Value j in the low half of byte j, value j + 16 in the high half."""
    return codes[..., :16] | codes[..., 16:] << np.uint8(4)


def _bytes(type_name: str, blocks: NDArray, **fields: NDArray) -> NDArray[np.uint8]:
    """Rows of a format's blocks, with the scales of `blocks`. Raises ValueError where float16 overflows."""
    made = np.empty(blocks.shape, formats.by_name(type_name).dtype)
    fields["scale"] = blocks["scale"]
    for name, values in fields.items():
        with np.errstate(over="ignore"):
            made[name] = values
        if values.dtype == np.float32 and not np.isfinite(made[name]).all():
            raise ValueError(f"a {name} of {np.abs(values).max():g} does not fit float16")
    return made.view(np.uint8).reshape(len(blocks), -1)
