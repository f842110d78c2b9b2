"""The paged key-value cache: how many bytes it needs, and which physical page holds which positions of a sequence."""

from .errors import EdgellamaError
from .frame import PAGE_POSITIONS, Frame
from .program import AttentionShape


def page_bytes(shape: AttentionShape) -> tuple[int, int]:
    """Bytes of one page of one layer: (keys, values) of all KV heads."""
    return shape.n_kv_heads * shape.key_bytes, shape.n_kv_heads * shape.value_bytes


class PageTable:
    """Gives physical pages to slots as their sequences grow, and takes them back; written to the frame's table."""

    def __init__(self, frame: Frame, n_pages: int):
        self.frame = frame
        self.free = list(range(n_pages - 1, -1, -1))

    @property
    def n_slots(self) -> int:
        return self.frame.page_table.shape[0]

    def reserve(self, slot: int, n_positions: int) -> None:
        """Make positions 0..n_positions-1 of a slot writable. Raises EdgellamaError when the context is full."""
        row = self.frame.page_table[slot]
        needed = -(-n_positions // PAGE_POSITIONS)
        if needed > len(row):
            raise EdgellamaError(f"{n_positions} tokens do not fit into the context of {len(row) * PAGE_POSITIONS}")
        for index in range(needed):
            if row[index] < 0:
                if not self.free:
                    raise EdgellamaError("the key-value cache is full: close a session or load with a larger context")
                row[index] = self.free.pop()

    def truncate(self, slot: int, n_positions: int) -> None:
        """Keep the first n_positions of a slot; pages behind them become free."""
        row = self.frame.page_table[slot]
        for index in range(-(-n_positions // PAGE_POSITIONS), len(row)):
            if row[index] >= 0:
                self.free.append(int(row[index]))
                row[index] = -1
