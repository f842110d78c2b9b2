"""The frame: what changes from one run of a Program to the next, and the one place where it is range-checked."""

from itertools import pairwise

import numpy as np

from .errors import EdgellamaError
from .prefix import Layout

PAGE_POSITIONS = 256  # positions of one cache page; also the fixed segment in which attention reduces
TILE_TOKENS = 8  # tokens of one sequence that attention takes together
MAX_TOKENS, MAX_ROWS = 512, 64  # tokens of a model's step, and rows of logits that it can return
FEW_ROWS = 4  # up to here every worker normalises and quantizes for itself

# Addresses and counts that kernels read; see Frame for what they point to.
FRAME = np.dtype(
    [
        ("n_tokens", "i8"),
        ("n_rows", "i8"),
        ("token_ids", "i8"),
        ("positions", "i8"),
        ("cache_rows", "i8"),
        ("visible", "i8"),
        ("slots", "i8"),
        ("page_table", "i8"),
        ("pages_per_slot", "i8"),
        ("n_tiles", "i8"),
        ("tiles", "i8"),
        ("logit_rows", "i8"),
        ("n_segments", "i8"),  # most pages that any token of the frame sees
        ("second_positions", "i8"),
    ]
)


_ARRAYS = (
    "token_ids", "positions", "second_positions", "cache_rows", "visible", "slots", "page_table", "tiles", "logit_rows",
)  # fmt: skip


def frame_field(name: str) -> int:
    """Byte offset of a field of the frame."""
    return FRAME.fields[name][1]


class Frame:
    """Arrays of one step, allocated once for at most `max_tokens` tokens and `max_rows` rows of logits.

    Per token: `token_ids`, `positions`, `slots` (which sequence), `cache_rows` (physical row to write) and
    `visible` (first, end) positions that it attends to. `tiles` are runs of tokens of one sequence. A model
    with positions of two numbers has the other in `second_positions`.
    """

    def __init__(self, max_tokens: int, max_rows: int, vocabulary: int, n_slots: int, pages_per_slot: int):
        self.max_tokens, self.max_rows, self.vocabulary = max_tokens, max_rows, vocabulary
        self.token_ids = np.zeros(max_tokens, np.int32)
        self.positions = np.zeros(max_tokens, np.int32)
        self.second_positions = np.zeros(max_tokens, np.int32)
        self.slots = np.zeros(max_tokens, np.int32)
        self.cache_rows = np.zeros(max_tokens, np.int32)
        self.visible = np.zeros((max_tokens, 2), np.int32)
        self.tiles = np.zeros((max_tokens, 2), np.int32)  # (first token, count)
        self.logit_rows = np.zeros(max_rows, np.int32)
        self.page_table = np.full((n_slots, pages_per_slot), -1, np.int32)
        self.n_tokens = self.n_rows = self.n_tiles = self.n_segments = 0
        self.header = self._header()

    def fill(self, token_ids, positions, slots, logit_rows, layout: Layout | None = None) -> None:
        """Set the step: int arrays (n_tokens,) three times and (n_rows,).

        Every token sees all before it and itself, and is rotated by its position, unless a layout says otherwise.

        Raises EdgellamaError for an id, position, slot or row out of range, before any kernel runs.
        """
        token_ids, positions, slots, rows = (
            np.asarray(a).reshape(-1) for a in (token_ids, positions, slots, logit_rows)
        )
        self._check(token_ids, positions, slots, rows)
        n = self.n_tokens = len(token_ids)
        self.n_rows = len(rows)
        self.token_ids[:n], self.positions[:n], self.slots[:n] = token_ids, positions, slots
        self.logit_rows[: self.n_rows] = rows
        pages = self.page_table[slots, positions // PAGE_POSITIONS]
        if (pages < 0).any():
            raise EdgellamaError("a position of this step has no cache page: reserve it in the cache first")
        self.cache_rows[:n] = pages * PAGE_POSITIONS + positions % PAGE_POSITIONS
        self.visible[:n, 0] = 0
        self.visible[:n, 1] = self.positions[:n] + 1
        self.second_positions[:n] = 0
        if layout:
            self.positions[:n], self.second_positions[:n] = layout.rotary.T
            self.visible[:n, 1] = layout.ends
        self.n_segments = (int(self.visible[:n, 1].max()) - 1) // PAGE_POSITIONS + 1
        self._fill_tiles(n)
        self._fill_header()

    def _check(self, token_ids, positions, slots, rows) -> None:
        n_slots, pages_per_slot = self.page_table.shape
        limits = (
            ("token id", token_ids, self.vocabulary),
            ("position", positions, pages_per_slot * PAGE_POSITIONS),
            ("slot", slots, n_slots),
            ("row of logits", rows, len(token_ids)),
        )
        if not 0 < len(token_ids) <= self.max_tokens or len(rows) > self.max_rows:
            raise EdgellamaError(
                f"a step takes 1 to {self.max_tokens} tokens and at most {self.max_rows} rows of logits,"
                f" not {len(token_ids)} and {len(rows)}"
            )
        for what, values, limit in limits:
            if values.dtype.kind not in "iu" and len(values):
                raise EdgellamaError(f"{what}s must be integers, not {values.dtype}")
            bad = np.flatnonzero((values < 0) | (values >= limit))
            if len(bad):
                raise EdgellamaError(f"{what} {values[bad[0]]} is out of range: 0 to {limit - 1} here")
        if not len(token_ids) == len(positions) == len(slots):
            raise EdgellamaError("a step needs one position and one slot for each token")
        if len(slots) > 1:
            self._check_order(positions.astype(np.int64), slots.astype(np.int64))

    def _check_order(self, positions, slots) -> None:
        """Neighbours of one sequence come in order, and no position of a sequence comes twice."""
        backwards = (slots[1:] == slots[:-1]) & (positions[1:] <= positions[:-1])
        places = slots * (self.page_table.shape[1] * PAGE_POSITIONS) + positions
        if backwards.any() or len(np.unique(places)) < len(places):
            raise EdgellamaError("the tokens of one sequence must come in the order of their positions, each once")

    def _fill_tiles(self, n: int) -> None:
        """Runs of at most TILE_TOKENS neighbouring tokens of one sequence."""
        slots = self.slots[:n]
        starts = [0, *(np.flatnonzero(slots[1:] != slots[:-1]) + 1).tolist(), n]
        tiles = [
            (first, min(TILE_TOKENS, end - first))
            for begin, end in pairwise(starts)
            for first in range(begin, end, TILE_TOKENS)
        ]
        self.n_tiles = len(tiles)
        self.tiles[: self.n_tiles] = tiles

    def _header(self) -> np.ndarray:
        """FRAME (1,) with the addresses, which never change."""
        header = np.zeros(1, FRAME)
        for name in _ARRAYS:
            header[name] = getattr(self, name).ctypes.data
        header["pages_per_slot"] = self.page_table.shape[1]
        return header

    def _fill_header(self) -> None:
        header = self.header[0]
        for name in ("n_tokens", "n_rows", "n_tiles", "n_segments"):
            header[name] = getattr(self, name)
