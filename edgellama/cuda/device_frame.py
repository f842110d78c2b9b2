"""The frame of a step on the GPU: one block of memory, filled from page-locked memory in one copy."""

from itertools import pairwise

import numpy as np

from ..frame import Frame
from .device import Device
from .stream import Stream

TILE_TOKENS = 64  # neighbouring tokens of one sequence that attention takes together


class DeviceFrame:
    """Room for `max_tokens` tokens and `max_rows` rows of logits; `addresses` by the names of Frame's arrays."""

    def __init__(self, device: Device, frame: Frame, max_tokens: int, max_rows: int):
        shapes = {
            "token_ids": (max_tokens,),
            "positions": (max_tokens,),
            "second_positions": (max_tokens,),
            "slots": (max_tokens,),
            "cache_rows": (max_tokens,),
            "visible": (max_tokens, 2),
            "logit_rows": (max_rows,),
            "page_table": frame.page_table.shape,
            "next_pages": (frame.page_table.shape[1],),  # of the first token's sequence
            "tiles": (max_tokens, 2),
        }
        self.frame, self.n_tiles = frame, 0
        starts = np.cumsum([0, *(4 * int(np.prod(shape)) for shape in shapes.values())]).tolist()
        self._staging = device.pinned(starts[-1])
        self._memory = device.allocate(starts[-1])
        self._arrays, self.addresses = {}, {}
        for (name, shape), start in zip(shapes.items(), starts, strict=False):
            size = 4 * int(np.prod(shape))
            self._arrays[name] = self._staging.array[start : start + size].view(np.int32).reshape(shape)
            self.addresses[name] = self._memory.address + start

    def send(self, stream: Stream) -> None:
        """Make the GPU's frame what Frame is now. The step before must have ended."""
        frame, arrays = self.frame, self._arrays
        n, n_rows = frame.n_tokens, frame.n_rows
        for name in ("token_ids", "positions", "second_positions", "slots", "cache_rows", "visible"):
            arrays[name][:n] = getattr(frame, name)[:n]
        arrays["logit_rows"][:n_rows] = frame.logit_rows[:n_rows]
        arrays["page_table"][:] = frame.page_table
        arrays["next_pages"][:] = frame.page_table[frame.slots[0]]
        tiles = _tiles(frame.slots[:n])
        self.n_tiles = len(tiles)
        arrays["tiles"][: self.n_tiles] = tiles
        stream.upload(self._memory.address, self._staging.array)


def _tiles(slots: np.ndarray) -> np.ndarray:
    """int32 (n_tiles, 2): runs of at most TILE_TOKENS neighbours of one sequence, as (first, count)."""
    changes = np.flatnonzero(np.diff(slots)) + 1
    bounds = [0, *changes.tolist(), len(slots)]
    tiles = [
        (first, min(TILE_TOKENS, end - first))
        for begin, end in pairwise(bounds)
        for first in range(begin, end, TILE_TOKENS)
    ]
    return np.array(tiles, np.int32).reshape(-1, 2)
