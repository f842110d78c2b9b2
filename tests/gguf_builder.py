"""Writes GGUF bytes by hand, right ones and wrong ones: nothing is checked, every field can be replaced."""

import struct

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
F32, F16, Q4_0, Q8_0, Q4_K, I8 = 0, 1, 2, 8, 12, 24

_CODES = {
    **{UINT8: "B", INT8: "b", UINT16: "H", INT16: "h", UINT32: "I", INT32: "i", FLOAT32: "f"},
    **{BOOL: "B", UINT64: "Q", INT64: "q", FLOAT64: "d"},
}


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return u64(len(data)) + data


def payload(type_id: int, value) -> bytes:
    """The bytes of a value, without its type; an array is (element type, items)."""
    if type_id == STRING:
        return string(value)
    if type_id == ARRAY:
        element_type, items = value
        return u32(element_type) + u64(len(items)) + b"".join(payload(element_type, item) for item in items)
    return struct.pack("<" + _CODES[type_id], value)


def key(name: str | bytes, type_id: int, value) -> bytes:
    return string(name) + u32(type_id) + payload(type_id, value)


def raw_key(name: str | bytes, type_id: int, value_bytes: bytes) -> bytes:
    return string(name) + u32(type_id) + value_bytes


def tensor(name: str | bytes, dimensions, type_id: int, offset: int, n_dimensions: int | None = None) -> bytes:
    """A row of the tensor table; `dimensions` in the file's order, the contiguous one first."""
    count = len(dimensions) if n_dimensions is None else n_dimensions
    return string(name) + u32(count) + b"".join(map(u64, dimensions)) + u32(type_id) + u64(offset)


def gguf(
    keys=(), tensors=(), data=b"", *, magic=b"GGUF", version=3, n_tensors=None, n_keys=None, alignment=32
) -> bytes:
    """A file: header, rows of `key`, rows of `tensor`, padding to `alignment`, data."""
    counts = u64(len(tensors) if n_tensors is None else n_tensors) + u64(len(keys) if n_keys is None else n_keys)
    head = magic + u32(version) + counts + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def llama_keys(**changes) -> list[bytes]:
    """The keys of a tiny llama; `block_count=(STRING, "2")` replaces one, `block_count=None` drops it."""
    values = {
        "general.architecture": (STRING, "llama"),
        "general.name": (STRING, "tiny"),
        "llama.block_count": (UINT32, 2),
        "llama.context_length": (UINT32, 128),
        "llama.embedding_length": (UINT32, 64),
        "llama.feed_forward_length": (UINT32, 96),
        "llama.attention.head_count": (UINT32, 4),
        "llama.attention.head_count_kv": (UINT32, 2),
        "llama.attention.layer_norm_rms_epsilon": (FLOAT32, 2.0**-17),
        "llama.rope.dimension_count": (UINT32, 16),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, ["<unk>", "<s>", "</s>", "a", "b"])),
        "tokenizer.ggml.scores": (ARRAY, (FLOAT32, [0.0, 0.0, 0.0, -1.0, -2.0])),
        "tokenizer.ggml.token_type": (ARRAY, (INT32, [2, 3, 3, 1, 1])),
        "tokenizer.ggml.add_bos_token": (BOOL, 1),
    }
    values.update(changes)
    return [key(name, *value) for name, value in values.items() if value is not None]


def llama_file(**changes) -> bytes:
    """A tiny llama-like file with tensors of three types; the values are the byte numbers."""
    shapes = [("token_embd.weight", (64, 5), F32, 1280), ("blk.0.attn_q.weight", (64, 64), Q8_0, 4352)]
    shapes += [("blk.0.ffn_up.weight", (64, 96), Q4_0, 3456), ("output_norm.weight", (64,), F32, 256)]
    rows, offset = [], 0
    for name, dimensions, type_id, n_bytes in shapes:
        rows.append(tensor(name, dimensions, type_id, offset))
        offset += n_bytes
    return gguf(llama_keys(**changes), rows, bytes(index % 251 for index in range(offset)))
