"""GGUF files that hold a tokenizer and nothing else, and texts to try it on."""

import random

from gguf_builder import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT8, UINT32, gguf, key

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
NONE = 4294967295
# GPT-2's spelling of bytes, written out independently: the printable ones stand for themselves.
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
SPELLING = {byte: chr(byte) for byte in BYTES} | {
    byte: chr(256 + place) for place, byte in enumerate(byte for byte in range(256) if byte not in BYTES)
}


def spelled(text: str) -> str:
    return "".join(SPELLING[byte] for byte in text.encode())


def write_vocabulary(path, **values):
    """A GGUF file of `tokenizer.ggml.*` keys; a value of None leaves the key out."""
    keys = [key(f"tokenizer.ggml.{name}", *value) for name, value in values.items() if value is not None]
    path.write_bytes(gguf(keys))
    return path


def spm_keys(extra=(), **changes):
    """<unk> <s> </s>, the 256 bytes from id 3, then the `extra` tokens (text, score, type) from id 259."""
    tokens = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    texts, scores, types = zip(*tokens, *extra, strict=True)
    return {
        "model": (STRING, "llama"),
        "tokens": (ARRAY, (STRING, texts)),
        "scores": (ARRAY, (FLOAT32, scores)),
        "token_type": (ARRAY, (INT32, types)),
        "bos_token_id": (UINT32, 1),
        "eos_token_id": (UINT32, 2),
    } | changes


def bpe_keys(words=(), merges=(), specials=(), **changes):
    """The 256 bytes as ids 0 to 255, then `words` as they are spelled, then `specials` (text, type)."""
    tokens = [*(SPELLING[byte] for byte in range(256)), *words, *(text for text, _ in specials)]
    types = [NORMAL] * (256 + len(words)) + [kind for _, kind in specials]
    return {
        "model": (STRING, "gpt2"),
        "pre": (STRING, "gpt-2"),
        "tokens": (ARRAY, (STRING, tokens)),
        "token_type": (ARRAY, (INT32, types)),
        "merges": (ARRAY, (STRING, list(merges))),
    } | changes


def bpe_keys_of_files(pre: str, ids: dict[str, int], merges: list[str]):
    """What a converter writes for a vocab.json and the lines of a merges.txt."""
    return {
        "model": (STRING, "gpt2"),
        "pre": (STRING, pre),
        "tokens": (ARRAY, (STRING, sorted(ids, key=ids.get))),
        "merges": (ARRAY, (STRING, merges)),
    }


def bpe_keys_of_ranks(pre: str, ranks: dict[bytes, int]):
    """What a converter writes for tiktoken's ranks: every way to make a token of two, by the token's rank."""
    text = {token: "".join(SPELLING[byte] for byte in token) for token in ranks}
    pairs = []
    for token, rank in ranks.items():
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [(ranks[left], ranks[right], left, right) for left, right in halves if left in ranks and right in ranks]
        pairs += [(rank, left_rank, right_rank, left, right) for left_rank, right_rank, left, right in known]
    merges = [f"{text[left]} {text[right]}" for *_, left, right in sorted(pairs)]
    return bpe_keys_of_files(pre, {text[token]: rank for token, rank in ranks.items()}, merges)


def protobuf_fields(data: bytes):
    """(field number, value) of a protobuf message: an integer, or the bytes of anything else."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value, at

    position = 0
    while position < len(data):
        tag, position = varint(position)
        if tag & 7 == 0:
            value, position = varint(position)
        else:
            size, position = varint(position) if tag & 7 == 2 else (4, position)
            value, position = data[position : position + size], position + size
        yield tag >> 3, value


def spm_keys_of_model(model: bytes):
    """What a converter writes for a SentencePiece model, read without the library."""
    pieces = [dict(protobuf_fields(value)) for field, value in protobuf_fields(model) if field == 1]
    normalizer = dict(protobuf_fields(next(value for field, value in protobuf_fields(model) if field == 3)))
    scores = [int.from_bytes(piece.get(2, b""), "little") for piece in pieces]
    return {
        "model": (STRING, "llama"),
        "tokens": (ARRAY, (STRING, [piece[1] for piece in pieces])),
        "scores": (ARRAY, (FLOAT32, memoryview(b"".join(s.to_bytes(4, "little") for s in scores)).cast("f").tolist())),
        "token_type": (ARRAY, (INT32, [piece.get(3, NORMAL) for piece in pieces])),
        "add_space_prefix": (BOOL, normalizer.get(3, 1)),
        "remove_extra_whitespaces": (BOOL, normalizer.get(4, 1)),
        "precompiled_charsmap": (ARRAY, (UINT8, list(normalizer.get(2, b"")))),
    }


def random_text(chance: random.Random) -> str:
    def letter() -> str:
        ranges = ((32, 127), (32, 127), (9, 14), (0xA0, 0x250), (0x400, 0x500), (0x3040, 0xA000), (0x1F300, 0x1F700))
        return chr(chance.randrange(*chance.choice(ranges)))

    return "".join(letter() for _ in range(chance.randrange(24)))
