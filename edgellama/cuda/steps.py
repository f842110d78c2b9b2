"""What launches are made of: one step of a plan, what changes from run to run, and where everything lies on the GPU."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from .. import ops
from ..ops import LOGIT_ROWS
from ..program import CacheSide, Constant, View, Weight
from .launch import Arguments, Blocks
from .weights import DeviceMatrix


class Counts(NamedTuple):
    """What changes from one step to the next."""

    n_tokens: int
    n_rows: int
    n_tiles: int


@dataclass
class Step:
    """One launch. `counted`: places of arguments that hold how many rows there are."""

    kernel: str
    arguments: Arguments
    n_threads: int
    blocks: Callable[[Counts], Blocks]
    shared_bytes: int = 0
    counted: tuple[int, ...] = ()
    extent: int = ops.TOKENS
    needed: Callable[[Counts], bool] = field(default=lambda counts: True)

    def count(self, counts: Counts) -> None:
        for place in self.counted:
            self.arguments.set(place, rows_of(counts, self.extent))


class Source(NamedTuple):
    """Where the activations of a product come from: a view, and the norm that is applied on the way."""

    view: View
    norm: Constant | None
    epsilon: float


@dataclass(frozen=True)
class Places:
    """Addresses on the GPU of everything that a program names, and the sizes that launches depend on."""

    buffers: dict
    matrices: dict[Weight, DeviceMatrix]
    constants: dict[Constant, int]
    caches: dict[CacheSide, int]
    frame: dict[str, int]
    pages_per_slot: int
    halves: int  # rows of activations as halves, and the powers of two that they are over
    powers: int
    parts: int  # of attention, and counters, which are zero between launches
    counters: int
    n_multiprocessors: int
    matvec_blocks: Callable[[str, int], int]  # blocks that run at once, by kernel and shared memory


def rows_of(counts: Counts, extent: int) -> int:
    return counts.n_rows if extent == LOGIT_ROWS else counts.n_tokens


def padded_columns(n_columns: int) -> int:
    """Columns of a row of halves."""
    return -(-n_columns // 64) * 64
