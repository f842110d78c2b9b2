"""Driving a TokenConstraint in tests: by text, byte for byte, and at random."""

import random

import numpy as np
from vocabulary_builder import spm_keys, write_vocabulary

from edgellama.grammar import TokenConstraint
from edgellama.tokenizer import Tokenizer, from_gguf

FIRST_BYTE = 3  # the id of byte 0 in the vocabularies of spm_keys


def byte_tokenizer(folder, extra=(), **changes) -> Tokenizer:
    """<unk> <s> </s> and the 256 bytes, then `extra` tokens."""
    return from_gguf(write_vocabulary(folder / "vocabulary.gguf", **spm_keys(extra, **changes)))


def allowed_ids(constraint: TokenConstraint) -> list[int]:
    """The ids whose bits are set: bit i % 32 of word i // 32."""
    bits = constraint.allowed()[:, None] >> np.arange(32, dtype=np.uint32) & 1
    return np.flatnonzero(bits).tolist()


def allowed_bytes(constraint: TokenConstraint) -> set[int]:
    return {index - FIRST_BYTE for index in allowed_ids(constraint) if FIRST_BYTE <= index < FIRST_BYTE + 256}


def goes_on(constraint: TokenConstraint, text: str | bytes) -> bool:
    """Accept the bytes of a text as far as they are allowed; whether all were."""
    for byte in text.encode() if isinstance(text, str) else text:
        if byte not in allowed_bytes(constraint):
            return False
        constraint.accept(FIRST_BYTE + byte)
    return True


def accepts(constraint: TokenConstraint, text: str | bytes) -> bool:
    """Whether a whole text, from the beginning, is allowed."""
    constraint.reset()
    return goes_on(constraint, text) and constraint.is_complete


def walk(constraint: TokenConstraint, tokenizer: Tokenizer, chance: random.Random, most: int = 400) -> tuple[str, bool]:
    """A text of tokens drawn evenly from those allowed, and whether it came to an end before `most` tokens.

    The end, where it is allowed, is taken every fourth time.
    """
    constraint.reset()
    stream, pieces = tokenizer.stream(at_start=False), []
    for _ in range(most):
        ids = allowed_ids(constraint)
        texts = [index for index in ids if index not in tokenizer.end_ids]
        assert constraint.is_complete == (len(texts) < len(ids))
        assert constraint.is_finished == (not texts)
        if not texts or (constraint.is_complete and chance.random() < 0.25):
            return "".join([*pieces, stream.finish()]), True
        token_id = chance.choice(texts)
        constraint.accept(token_id)
        pieces.append(stream.push(token_id))
    return "".join(pieces), False


def softmax_draw(logits: np.ndarray, mask: np.ndarray, temperature: float, chance: np.random.Generator) -> int:
    """A token by softmax(logits / temperature) among those whose bits are set."""
    is_allowed = np.unpackbits(mask.view(np.uint8), bitorder="little")[: len(logits)].astype(bool)
    scaled = np.where(is_allowed, logits.astype(np.float64) / temperature, -np.inf)
    weights = np.exp(scaled - scaled.max())
    return int(chance.choice(len(logits), p=weights / weights.sum()))
