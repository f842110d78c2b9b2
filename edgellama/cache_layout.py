"""The bytes of a key-value cache page: one KV head, PAGE_POSITIONS positions, keys or values.

Keys    [position/16][key_dim][16 positions], so that 16 positions are the lanes of a score.
Values  [position][value_dim padded to 16], so that 16 dimensions are the lanes of an output.
"q8_0" holds int8 in these places (dims padded to 32) and then float16 scales, one per 32 dimensions:
keys [position/16][key_dim/32][16], values [position][value_dim/32].
"""

from .frame import PAGE_POSITIONS

VALUE_BYTES = {"f16": 2, "f32": 4, "q8_0": 1}
KV_TYPES = tuple(VALUE_BYTES)


def padded(width: int, to: int) -> int:
    """width rounded up to a multiple of `to`."""
    return -(-width // to) * to


def side_bytes(dim: int, kv_type: str, is_key: bool) -> int:
    """Bytes of the keys, or of the values, of one KV head in one page."""
    if kv_type == "q8_0":
        width = padded(dim, 32)
        return PAGE_POSITIONS * (width + width // 16)
    return PAGE_POSITIONS * VALUE_BYTES[kv_type] * (dim if is_key else padded(dim, 16))
