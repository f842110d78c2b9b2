"""The wire format of Protocol Buffers, as far as reading SentencePiece models needs it.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT_BYTES = 10


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) in order; a varint is an int, all else the bytes. Raises ValueError for damage."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire_type)
            if wire_type == _BYTES:
                size, position = _varint(message, position)
            if size is None or size > len(message) - position:
                raise ValueError(f"field {tag >> 3} runs past the end")
            value = message[position : position + size]
            position += size
        yield tag >> 3, value


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[position : position + _LONGEST_VARINT_BYTES]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, position + place + 1
    raise ValueError("a number runs past the end")
