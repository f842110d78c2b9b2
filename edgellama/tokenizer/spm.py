"""SentencePiece vocabularies (`tokenizer.ggml.model` = "llama"): the library's own model, rebuilt from the GGUF keys.

SentencePiece reads its model from a protobuf message. The few fields it needs are written here by hand, which takes
neither a protobuf package nor a file. Field numbers:
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

import math
import re
from typing import Any

import numpy as np

from edgellama.errors import ModelError
from edgellama.gguf import GGUFFile
from edgellama.tokenizer.base import Tokenizer
from edgellama.tokenizer.vocabulary import KEY, TokenType, Vocabulary

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}".encode()  # what SentencePiece writes for a space
_BYTE_TEXT = re.compile(rb"<0x([0-9A-F]{2})>")
_BPE = 2  # TrainerSpec.ModelType
# The fields of a SentencePiece message after its text.
_TAIL = np.dtype([("score_field", "u1"), ("score", "<f4"), ("type_field", "u1"), ("type", "u1")])


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece BPE with byte fallback. User-defined tokens are found by SentencePiece itself."""

    adds_bos = True

    def __init__(self, file: GGUFFile):
        super().__init__(file)
        self._byte_ids = frozenset(self.vocabulary.ids_of_types(TokenType.BYTE))
        self._adds_space = file.get(KEY + "add_space_prefix", bool, True)
        self._removes_spaces = file.get(KEY + "remove_extra_whitespaces", bool, False)
        self.leading_spaces = math.inf if self._removes_spaces else int(self._adds_space)
        self._processor = self._open_processor(file)

    def encode_text(self, text: str) -> list[int]:
        """The ids of `text`, with the space in front that the model was trained with."""
        ids = self._processor.EncodeAsIds(text)
        # The stand-in piece of a vocabulary without an unknown token lies past its end.
        return [index for index in ids if index < self.vocab_size]

    def _bytes_of(self, token_id: int) -> bytes:
        token = self.vocabulary.tokens[token_id]
        if token_id in self._byte_ids:
            return bytes([int(token[3:5], 16)])
        return token if self.is_special(token_id) else token.replace(_SPACE, b" ")

    def _open_processor(self, file: GGUFFile) -> Any:
        import sentencepiece

        _check_byte_tokens(self.vocabulary)
        scores = self.vocabulary.per_token(file, "scores", "f", "numbers")
        if not np.isfinite(scores).all():
            self.vocabulary.fail("scores", "holds a number that is not finite")
        model = _pieces(self.vocabulary, scores) + _trainer(self.vocabulary) + self._normalizer(file)
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ModelError(f"{file.path}: SentencePiece cannot use the vocabulary: {error}") from error

    def _normalizer(self, file: GGUFFile) -> bytes:
        """NormalizerSpec: no rules of its own unless the file carries a compiled table."""
        rules = file.get(KEY + "precompiled_charsmap", np.ndarray, None)
        charsmap = b"" if rules is None else rules.astype(np.uint8).tobytes()
        flags = _number(3, self._adds_space) + _number(4, self._removes_spaces) + _number(5, True)
        return _message(3, _message(1, b"identity") + _message(2, charsmap) + flags)


def _pieces(vocabulary: Vocabulary, scores: np.ndarray) -> bytes:
    """One SentencePiece message (text, score, type) for each token, and an unknown piece if the file has none.

    SentencePiece wants every text once, none empty, one unknown piece: tokens that break this get a text that no
    input contains and are never produced, but keep their ids.
    """
    types, texts = _piece_types(vocabulary), [token.replace(b" ", _SPACE) for token in vocabulary.tokens]
    for index in _unusable(texts):
        texts[index], types[index] = b"<unusable \xff %d>" % index, TokenType.UNUSED
    if TokenType.UNKNOWN not in types:
        texts.append(b"<unknown \xff>")
        types, scores = np.append(types, TokenType.UNKNOWN), np.append(scores, 0)
    tails = np.zeros(len(texts), _TAIL)
    tails["score_field"], tails["score"], tails["type_field"], tails["type"] = 2 << 3 | 5, scores, 3 << 3, types
    packed, size = tails.tobytes(), _TAIL.itemsize
    heads = {n: _head(1, len(_head(1, n)) + n + size) + _head(1, n) for n in set(map(len, texts))}
    return b"".join(
        [heads[len(text)] + text + packed[size * index : size * index + size] for index, text in enumerate(texts)]
    )


def _piece_types(vocabulary: Vocabulary) -> np.ndarray:
    """The types as SentencePiece wants them: one unknown token, and byte tokens only if all 256 are there."""
    types = vocabulary.types.copy()
    types[types == TokenType.UNDEFINED] = TokenType.NORMAL
    unknown = np.flatnonzero(types == TokenType.UNKNOWN)
    types[unknown] = TokenType.CONTROL
    types[unknown[:1] if vocabulary.unknown_id is None else vocabulary.unknown_id] = TokenType.UNKNOWN
    if not _has_all_bytes(vocabulary):
        types[types == TokenType.BYTE] = TokenType.UNUSED
    return types


def _check_byte_tokens(vocabulary: Vocabulary) -> None:
    for index in vocabulary.ids_of_types(TokenType.BYTE):
        token = vocabulary.tokens[index]
        if not _BYTE_TEXT.fullmatch(token):
            vocabulary.fail("tokens", f"has {token[:20]!r} as byte token {index}, which is not spelled like <0x0A>")


def _has_all_bytes(vocabulary: Vocabulary) -> bool:
    return len({vocabulary.tokens[index] for index in vocabulary.ids_of_types(TokenType.BYTE)}) == 256


def _unusable(texts: list[bytes]) -> list[int]:
    """The ids of texts that are empty or repeat an earlier one."""
    seen = {b""}
    if len(seen.union(texts)) == len(texts) + 1:
        return []
    return [index for index, text in enumerate(texts) if text in seen or seen.add(text)]


def _trainer(vocabulary: Vocabulary) -> bytes:
    """TrainerSpec: BPE, and byte fallback where the vocabulary has all 256 bytes."""
    return _message(2, _number(3, _BPE) + _number(35, _has_all_bytes(vocabulary)))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(int(value))


def _head(field: int, n_bytes: int) -> bytes:
    """What stands before the `n_bytes` of a text or message."""
    return _varint(field << 3 | 2) + _varint(n_bytes)


def _message(field: int, body: bytes) -> bytes:
    return _head(field, len(body)) + body
