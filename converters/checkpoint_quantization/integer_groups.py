"""Weights of integers in groups: value = scale * (code - zero), with one scale and zero for each group of columns.

They stay as they are where GGUF has blocks for them (`integer_blocks.py`), which takes groups that fill blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..lazy_tensor import LazyTensor, Numbers, SelectableTensor, selectable
from ..stored_types import F32, StoredType
from . import integer_blocks
from .group_rounding import Rounding, survey

_NO_BLOCKS = {2: "q6_k", 3: "q6_k", 4: "q6_k", 8: "q8_0"}  # how weights that no block fits are quantized again


@dataclass(frozen=True)
class GroupedType(StoredType):
    """Integers in groups: what keeping them costs by the type of blocks, or the `obstacle` to keeping them."""

    rounding: Mapping[str, Rounding] = field(default_factory=dict, hash=False)
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
        """Rows of blocks; `order` is that of the columns."""
        groups = (self.group_of if order is None else self.group_of[order])[:: integer_blocks.BLOCK_VALUES]

        def select(rows: Numbers) -> NDArray:
            found = self.codes.select(rows) if order is None else self.codes.select(rows)[:, order]
            blocks = np.empty((len(found), len(groups)), integer_blocks.DTYPE)
            blocks["codes"] = found.reshape(*blocks.shape, integer_blocks.BLOCK_VALUES)
            blocks["scale"] = self.scales.stored.widen(self.scales.select(rows))[:, groups]
            blocks["zero"] = self.zeros.select(rows)[:, groups]
            return blocks

        return selectable(self.codes.shape, self._stored(), select)

    @property
    def _name(self) -> str:
        return f"int{self.bits} in groups"

    def _stored(self) -> GroupedType:
        """The type by what the zeros of the whole tensor allow."""
        low, high, costs = survey(self.scales, self.zeros, self.bits)
        kept = integer_blocks.types_for(self.bits, low, high)
        makers = {name: integer_blocks.MAKERS[name] for name in kept}
        rounding = {name: costs[integer_blocks.HAS_MINIMUM[name]] for name in kept}
        preferred = kept[0] if kept else _NO_BLOCKS[self.bits]
        obstacle = "" if kept else "no block has other zeros than 128 for 8 bits"
        dtype, widen = integer_blocks.DTYPE, integer_blocks.widen
        return GroupedType(self._name, dtype, widen, makers, preferred, rounding, obstacle)


def _fill_blocks(group_of: NDArray[np.intp]) -> bool:
    """Whether every run of 32 columns belongs to one group."""
    if len(group_of) % integer_blocks.BLOCK_VALUES:
        return False
    runs = group_of.reshape(-1, integer_blocks.BLOCK_VALUES)
    return bool((runs == runs[:, :1]).all())
