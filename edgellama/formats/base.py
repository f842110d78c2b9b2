"""What every tensor format shares: registration, row arithmetic, and the meaning of an integer block.

A format names its bytes with a NumPy structured dtype and says how they become integers. Every integer format of
GGML, whatever its packing, is

    value = scale * q - minimum        q in int8, scale and minimum constant over each run of 16 values

so a subclass writes only ``integers`` and inherits ``decode``. The same view is what compute kernels unpack to.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

RUN_VALUES = 16  # the finest scale granularity of any GGML format
CHUNK_VALUES = 1 << 18  # values decoded or encoded at once: the temporaries stay in cache

Integers = tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]

REGISTRY: "dict[int, type[BlockFormat]]" = {}


class BlockFormat:
    """One tensor format. Classes are never instantiated; subclasses that set ``type_id`` register themselves."""

    name: ClassVar[str]
    type_id: ClassVar[int]  # the number GGUF files store
    block_values: ClassVar[int]
    block_bytes: ClassVar[int]
    bits_per_weight: ClassVar[float]
    dtype: ClassVar[np.dtype]  # the layout of one block
    zero_point: ClassVar[int | None] = None  # stored code = q + zero_point; None where a table maps codes to q

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "type_id" not in cls.__dict__:
            return  # a shared base of several formats
        if cls.type_id in REGISTRY:
            raise TypeError(f"type id {cls.type_id} is both {REGISTRY[cls.type_id].__name__} and {cls.__name__}")
        cls.block_bytes = cls.dtype.itemsize
        cls.bits_per_weight = 8 * cls.block_bytes / cls.block_values
        REGISTRY[cls.type_id] = cls

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        """(q (n, block_values), scale (n, block_values // 16), minimum (n, block_values // 16)) of n blocks."""
        raise NotImplementedError(f"{cls.name} has no integer view")

    @classmethod
    def decode(cls, blocks: NDArray) -> NDArray[np.float32]:
        """(n_blocks,) of ``dtype`` -> (n_blocks, block_values). A scale of NaN or infinity spreads, silently."""
        with np.errstate(over="ignore", invalid="ignore"):
            q, scale, minimum = cls.integers(blocks)
            values = q.astype(np.float32).reshape(len(blocks), cls.block_values // RUN_VALUES, RUN_VALUES)
            values *= scale[..., None]
            values -= minimum[..., None]
        return values.reshape(len(blocks), cls.block_values)

    @classmethod
    def row_bytes(cls, n_columns: int) -> int:
        """Bytes of one row; a row is whole blocks, as GGUF requires."""
        if n_columns <= 0 or n_columns % cls.block_values:
            raise ValueError(f"{cls.name} rows are multiples of {cls.block_values} values, not {n_columns}")
        return n_columns // cls.block_values * cls.block_bytes

    @classmethod
    def blocks(cls, data: NDArray[np.uint8], n_columns: int) -> NDArray:
        """The bytes of whole rows as a flat structured array, without a copy where they are contiguous."""
        if data.dtype != np.uint8 or data.size % cls.row_bytes(n_columns):
            raise ValueError(
                f"{data.size} items of {data.dtype} are not whole {cls.name} rows of {n_columns} values, "
                f"{cls.row_bytes(n_columns)} bytes each"
            )
        return np.ascontiguousarray(data).reshape(-1).view(cls.dtype)

    @classmethod
    def decode_rows(cls, data: NDArray[np.uint8], n_columns: int) -> NDArray[np.float32]:
        """Bytes of whole rows, in any shape -> (n_rows, n_columns)."""
        blocks = cls.blocks(data, n_columns)
        values = np.empty((len(blocks), cls.block_values), np.float32)
        for part in chunks(len(blocks), cls.block_values):
            values[part] = cls.decode(blocks[part])
        return values.reshape(-1, n_columns)


def chunks(n_blocks: int, block_values: int) -> list[slice]:
    """Slices that cover ``n_blocks`` in steps of about CHUNK_VALUES values."""
    step = max(1, CHUNK_VALUES // block_values)
    return [slice(start, start + step) for start in range(0, n_blocks, step)]
