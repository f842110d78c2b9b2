"""The part of a GGUF file that both tokenizers need: the token list, its types and the ids with a meaning.

Everything is proved here once, so that the tokenizers can index without checks: as many types as tokens, types from
the table below, ids inside the vocabulary. Writers use 4294967295 (or -1) for "none".
"""

from enum import IntEnum
from functools import cached_property

import numpy as np

from edgellama.errors import ModelError
from edgellama.gguf import GGUFFile


class TokenType(IntEnum):
    """The values of `tokenizer.ggml.token_type`."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


KEY = "tokenizer.ggml."
PREFIX_KEY = "tokenizer.edgellama.prefix"  # ids before every text, where that is more than a BOS token
_NONE = (4294967295, -1)
# Where SentencePiece puts them, for files that do not say (SentencePiece's TrainerSpec: bos_id, eos_id).
_SENTENCEPIECE_IDS = {"bos_token_id": 1, "eos_token_id": 2}

# Many files name no end-of-turn token, or only one of several, or do not say that it is a control token. Models stop at
# any of these; the last three end what a code model fills in.
_END_TEXTS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)


class Vocabulary:
    """The tokens of one file and the ids with a meaning (None where the file has none).

    Raises ModelError, one sentence naming the file and the key, when the keys contradict each other.
    """

    def __init__(self, file: GGUFFile):
        self.path = file.path
        self.tokens: list[bytes] = file.raw_strings(KEY + "tokens")
        if not self.tokens:
            self.fail("tokens", "must hold at least one token, and is empty")
        self.types = self._types(file)  # (vocab_size,) of TokenType
        self.bos_id = self._id(file, "bos_token_id")
        self.eos_id = self._id(file, "eos_token_id")
        self.unknown_id = self._id(file, "unknown_token_id")
        known_ends = {text: self.id_of[text.encode()] for text in _END_TEXTS if text.encode() in self.id_of}
        self.types[list(known_ends.values())] = TokenType.CONTROL
        self.end_ids = self._end_ids(file, known_ends)

    def ids_at(self, file: GGUFFile, key: str) -> tuple[int, ...]:
        """The token ids in an array of the file; empty where it has none."""
        values = np.asarray(file.metadata.get(key, ()))
        if values.size == 0:
            return ()
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(self.tokens):
            raise ModelError(f"{file.path}: key {key!r} must hold token ids from 0 to {len(self.tokens) - 1}")
        return tuple(values.tolist())

    def fail(self, key: str, problem: str) -> None:
        """Raise the ModelError "FILE: key 'tokenizer.ggml.KEY' PROBLEM"."""
        raise ModelError(f"{self.path}: key '{KEY}{key}' {problem}")

    @cached_property
    def id_of(self) -> dict[bytes, int]:
        """Token text -> id; of equal texts the last, as other runtimes do."""
        return dict(zip(self.tokens, range(len(self.tokens)), strict=True))

    def ids_of_types(self, *types: TokenType) -> list[int]:
        """The ids of all tokens of the given types, ascending."""
        return np.flatnonzero(np.isin(self.types, types)).tolist()

    def per_token(self, file: GGUFFile, key: str, kinds: str, wanted: str) -> np.ndarray:
        """A numeric array with one entry per token; `kinds` are the NumPy dtype kinds allowed."""
        values = file.get(KEY + key, np.ndarray)
        if values.dtype.kind not in kinds:
            self.fail(key, f"must be an array of {wanted}, and is an array of {values.dtype}")
        if len(values) != len(self.tokens):
            self.fail(key, f"must have one entry for each of the {len(self.tokens)} tokens, and has {len(values)}")
        return values

    def _types(self, file: GGUFFile) -> np.ndarray:
        if KEY + "token_type" not in file.metadata:
            return self._guessed_types()
        types = self.per_token(file, "token_type", "iu", "integers")
        wrong = np.flatnonzero((types < min(TokenType)) | (types > max(TokenType)))
        if wrong.size:
            self.fail("token_type", f"gives token {wrong[0]} the unknown type {types[wrong[0]]}")
        return types.astype(np.uint8)

    def _guessed_types(self) -> np.ndarray:
        """The oldest files have no types: their byte tokens are known by their spelling."""
        types = np.full(len(self.tokens), TokenType.NORMAL, np.uint8)
        for byte in range(256):
            index = self.id_of.get(b"<0x%02X>" % byte)
            if index is not None:
                types[index] = TokenType.BYTE
        return types

    def _id(self, file: GGUFFile, key: str) -> int | None:
        value = file.get(KEY + key, int, None)
        if value is None:
            return self._usual_id(file, key)
        if value in _NONE:
            return None
        if not 0 <= value < len(self.tokens):
            self.fail(key, f"is {value}, and the vocabulary ends at {len(self.tokens) - 1}")
        return value

    def _usual_id(self, file: GGUFFile, key: str) -> int | None:
        index = _SENTENCEPIECE_IDS.get(key) if file.get(KEY + "model", str, None) == "llama" else None
        is_there = index is not None and index < len(self.tokens) and self.types[index] == TokenType.CONTROL
        return index if is_there else None

    def _end_ids(self, file: GGUFFile, known: dict[str, int]) -> set[int]:
        """The ids after which a model has nothing more to say: those the file names and those known by their text."""
        named = {self.eos_id, self._id(file, "eot_token_id"), self._id(file, "eom_token_id")} - {None}
        # In the harmony format a turn goes on after <|end|>, and only <|return|> and <|call|> finish it.
        if {"<|return|>", "<|call|>"} <= known.keys():
            named.discard(known.pop("<|end|>", None))
        return named | set(known.values())
