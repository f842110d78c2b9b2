"""Made-up vocabularies that load everywhere and tokenize any text: SentencePiece-like and byte-level BPE.

Pieces are built by joining two earlier pieces, so every piece can be reached by merges from single characters. The
words mean nothing; what matters is the size of the tables and that text goes in and comes out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

LETTERS_BY_FREQUENCY = "etaoinshrdlcumwfgypbvkjxqz"
MAX_PIECE_LENGTH = 16
TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_BYTE = 1, 2, 3, 6


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file stores of a tokenizer; `scores` for model llama, `merges` and `pre` for model gpt2."""

    model: str
    tokens: list[str]
    types: list[int]
    bos_id: int
    eos_id: int
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    pre: str | None = None
    unknown_id: int | None = None


def _join_pieces(n_pieces: int, space: str, taken: set[str], rng: random.Random) -> list[str]:
    """`n_pieces` new pieces, each two earlier ones joined; short and frequent parts are preferred, as in real text."""
    parts = [space, *LETTERS_BY_FREQUENCY]
    joined: list[str] = []
    taken = taken | set(parts)
    while len(joined) < n_pieces:
        left = parts[int(len(parts) * rng.random() ** 3)]
        right = parts[int(len(parts) * rng.random() ** 3)]
        piece = left + right
        if piece in taken or len(piece) > MAX_PIECE_LENGTH or space in right:
            continue
        taken.add(piece)
        joined.append(piece)
        parts.append(piece)
    return joined


def sentencepiece_like(n_tokens: int, seed: int = 0) -> Vocabulary:
    """Llama-2's arrangement: three specials, 256 bytes, joined pieces in order of merging, then single characters."""
    specials = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    singles = ["▁", *(chr(code) for code in range(33, 127))]
    n_joined = n_tokens - len(specials) - len(byte_tokens) - len(singles)
    pieces = _join_pieces(n_joined, "▁", set(singles), random.Random(seed)) + singles
    types = [TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_CONTROL] + [TOKEN_BYTE] * 256 + [TOKEN_NORMAL] * len(pieces)
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(pieces))]
    return Vocabulary("llama", specials + byte_tokens + pieces, types, 1, 2, scores=scores, unknown_id=0)


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in its token order (printable bytes first)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in set(printable)]
    return [chr(value) for value in printable] + [chr(256 + index) for index in range(len(others))]


def merges_of(tokens: list[str]) -> list[str]:
    """Every split of a token into two tokens, in token order: exactly what merging by token rank (tiktoken) does."""
    rank = {token: index for index, token in enumerate(tokens)}
    merges = []
    for token in tokens:
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [(rank[a], rank[b]) for a, b in splits if a in rank and b in rank]
        merges += [f"{tokens[a]} {tokens[b]}" for a, b in sorted(known)]
    return merges


def byte_level(n_tokens: int, seed: int = 0) -> Vocabulary:
    """Llama-3's arrangement: 256 bytes, joined pieces, then 256 specials of which the first two are BOS and EOS."""
    symbols = byte_symbols()
    ordinary = symbols + _join_pieces(n_tokens - 512, "Ġ", set(symbols), random.Random(seed))
    specials = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(254))]
    types = [TOKEN_NORMAL] * len(ordinary) + [TOKEN_CONTROL] * len(specials)
    bos_id = len(ordinary)
    return Vocabulary(
        "gpt2", ordinary + specials, types, bos_id, bos_id + 1, merges=merges_of(ordinary), pre="llama-bpe"
    )


BUILDERS: dict[str, Callable[[int, int], Vocabulary]] = {
    "sentencepiece": sentencepiece_like,
    "byte-level": byte_level,
}
