"""Byte-level BPE from vocab.json and merges.txt, GPT-2's form."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgellama.tokenizer.vocabulary import TokenType

from ..errors import ConvertError
from ..source_file import read_json, read_text
from .vocabulary import BYTE_LEVEL, Vocabulary

LARGEST_ID = 1 << 24


def read_vocab_and_merges(path: Path) -> Vocabulary:
    """`path` is the vocab.json; merges.txt lies beside it."""
    merges_path = path.with_name("merges.txt")
    if not merges_path.is_file():
        raise ConvertError(f"{path}: needs merges.txt beside it, which is not there")
    lines = read_text(merges_path).split("\n")
    if lines and lines[0].startswith("#version"):
        del lines[0]
    merges = [line.rstrip("\r") for line in lines if line.strip()]
    return Vocabulary(BYTE_LEVEL, *placed(read_json(path).items(), path), merges=merges)


def placed(entries: Iterable[tuple[str, Any]], path: Path) -> tuple[list[bytes], list[TokenType]]:
    """Tokens and types in the order of their ids, from (text, id); a gap becomes unused tokens."""
    tokens: dict[int, str] = {}
    for text, index in entries:
        if type(index) is not int or not 0 <= index < LARGEST_ID:
            raise ConvertError(f"{path}: gives the token {text[:40]!r} the id {str(index)[:40]}, which is none")
        if tokens.setdefault(index, text) != text:
            raise ConvertError(f"{path}: gives the id {index} to two tokens, {tokens[index][:40]!r} and {text[:40]!r}")
    if not tokens or max(tokens) > 2 * len(tokens) + 1000:
        raise ConvertError(f"{path}: holds {len(tokens)} tokens, and ids up to {max(tokens, default=0)}")
    vocabulary = Vocabulary(BYTE_LEVEL, [], [])
    for index in sorted(tokens):
        vocabulary.put(index, tokens[index].encode(errors="replace"), TokenType.NORMAL)
    return vocabulary.tokens, vocabulary.types
