"""DRY ("don't repeat yourself"): a penalty for tokens that would go on repeating a run of earlier tokens.

By P. E. Weidmann, https://github.com/oobabooga/text-generation-webui/pull/5677. A token loses
multiplier * base ** (length - allowed length), where `length` is that of the longest run that ends the text and that
stood before this token already; runs shorter than the allowed length cost nothing. A run does not reach back across a
sequence breaker, and a token that has a breaker in it loses nothing. Breakers are looked for in the text, so it does
not matter how they are cut into tokens.
"""

import math
from collections import deque
from operator import sub
from typing import Protocol

import numpy as np

from ..errors import EdgellamaError
from .options import SampleOptions
from .penalties import Change

_LARGEST_EXPONENT = 69.0  # of e: no logit matters after a penalty of 1e30, and longer runs cost no more


class HasPieces(Protocol):
    """The part of a tokenizer that sequence breakers need."""

    def piece_bytes(self, token_id: int) -> bytes: ...


class Dry:
    """The last tokens of the text, and the penalties for repeating runs of them.

    Raises EdgellamaError if there are sequence breakers and no tokenizer.
    """

    def __init__(self, options: SampleOptions, tokenizer: HasPieces | None):
        if options.dry_sequence_breakers and tokenizer is None:
            raise EdgellamaError("dry_sequence_breakers need a tokenizer: give one to the sampler, or no breakers")
        self._options, self._tokenizer = options, tokenizer
        self._breakers = [text.encode() for text in options.dry_sequence_breakers]
        self._n_kept = max(map(len, self._breakers), default=1) - 1  # bytes before a token that a breaker can begin in
        self._before = b""
        self._recent: deque[int] = deque(maxlen=options.dry_penalty_last_n)
        self._n_unbroken = 0  # tokens since the last breaker
        base = options.dry_base
        most = int(_LARGEST_EXPONENT / math.log(base)) if base > 1.000001 else 0
        self._longest = options.dry_allowed_length + most

    @staticmethod
    def is_on(options: SampleOptions) -> bool:
        """Whether there is any such penalty."""
        return options.dry_multiplier > 0 and options.dry_penalty_last_n > 0

    def accept(self, token_id: int) -> None:
        """Note a token of the text."""
        self._recent.append(token_id)
        self._n_unbroken += 1
        if self._breakers:
            piece = self._tokenizer.piece_bytes(token_id)
            text = self._before + piece
            if any(breaker in text[max(len(self._before) - len(breaker) + 1, 0) :] for breaker in self._breakers):
                self._n_unbroken = 0
            self._before = text[len(text) - self._n_kept :] if self._n_kept else b""

    def change(self) -> Change | None:
        """The penalties for the next token."""
        lengths = {token: length for token, length in self._run_lengths().items() if not self._has_breaker(token)}
        if not lengths:
            return None
        options = self._options
        exponents = [length - options.dry_allowed_length for length in lengths.values()]
        return list(lengths), [options.dry_multiplier * options.dry_base**exponent for exponent in exponents], sub

    def _run_lengths(self) -> dict[int, int]:
        """Token -> the longest run before one of its places that also ends the text; from the allowed length on."""
        longest, allowed = min(len(self._recent), self._n_unbroken, self._longest), self._options.dry_allowed_length
        if longest < allowed or len(self._recent) <= allowed:
            return {}
        backwards = np.array(self._recent)[::-1]
        found: dict[int, int] = {}
        places = np.arange(1, len(backwards))  # of the last token of a run; the token after it is one place before
        for length in range(1, longest + 1):
            places = places[places + length - 1 < len(backwards)]
            places = places[backwards[places + length - 1] == backwards[length - 1]]
            if not places.size:
                break
            if length >= allowed:
                found.update(dict.fromkeys(backwards[places - 1].tolist(), length))
        return found

    def _has_breaker(self, token_id: int) -> bool:
        piece = self._tokenizer.piece_bytes(token_id) if self._breakers else b""
        return any(breaker in piece for breaker in self._breakers)
