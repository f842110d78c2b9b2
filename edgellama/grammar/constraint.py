"""Token by token: what may come next in a text of a grammar, for the vocabulary of one model."""

import copy
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from edgellama.grammar.errors import GrammarError
from edgellama.grammar.grammar import Grammar, llguidance, reason
from edgellama.tokenizer.base import Tokenizer
from edgellama.tokenizer.vocabulary import TokenType

_NO_TEXT = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.UNUSED)
_NO_TOKEN = "NoExtensionBias"  # llguidance's word for it
_tables: WeakKeyDictionary[Tokenizer, Any] = WeakKeyDictionary()


class TokenConstraint:
    """Where a text stands in a grammar, and which tokens it may go on with.

    The text is the bytes of the accepted tokens, as `Tokenizer.stream(at_start=False)` prints them. Control, unknown
    and unused tokens are no text and never allowed; the tokens that end an answer (`Tokenizer.end_ids`) are allowed
    exactly when the text is complete. Not for several threads at a time; `fork()` gives each its own.
    """

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, vocab_size: int | None = None):
        """`vocab_size`: that of the logits, if it is not the tokenizer's; ids past either are never allowed.

        Raises GrammarError if llguidance refuses the grammar.
        """
        self.grammar = grammar
        self.vocab_size = tokenizer.vocab_size if vocab_size is None else vocab_size
        self._end_ids = frozenset(tokenizer.end_ids)
        self._ends = _mask(np.array(sorted(tokenizer.end_ids), np.intp), self.vocab_size)
        self._texts = _mask(np.arange(tokenizer.vocab_size), self.vocab_size)
        self._start = grammar.matcher(_table(tokenizer))
        self.reset()

    def reset(self) -> None:
        """Go back to the empty text."""
        self._matcher = self._start.deep_copy()
        self._next: np.ndarray | None = None

    def fork(self) -> "TokenConstraint":
        """Another constraint at the same place, which goes its own way from here."""
        other = copy.copy(self)
        other._matcher = self._matcher.deep_copy()
        return other

    @property
    def is_complete(self) -> bool:
        """Whether the text may end here."""
        return self._matcher.is_accepting()

    @property
    def is_finished(self) -> bool:
        """Whether the text must end here: it is complete, and nothing can follow."""
        return self.is_complete and not self._next_texts().any()

    def allowed(self) -> np.ndarray:
        """uint32 (ceil(vocab_size / 32),), read-only: bit i % 32 of word i // 32 is set if token i may come next.

        Raises GrammarError where no token may: the vocabulary lacks the bytes, or the grammar takes too much work.
        All zero only where the text is finished and the vocabulary has no token to end it with.
        """
        mask = self._next_texts() | self._ends if self.is_complete else self._next_texts()
        mask.flags.writeable = False
        return mask

    def accept(self, token_id: int) -> None:
        """Add a token to the text; a token that ends the answer changes nothing. Raises GrammarError if not allowed."""
        word, bit = divmod(int(token_id), 32)
        if not 0 <= token_id < self.vocab_size or not self.allowed()[word] >> np.uint32(bit) & 1:
            raise GrammarError(f"{self.grammar.name} does not allow the token {token_id} here")
        if token_id not in self._end_ids:
            self._matcher.consume_token(int(token_id))
            self._next = None

    def _next_texts(self) -> np.ndarray:
        """The mask of `allowed` without the ends; computed once for each place."""
        if self._next is None:
            words = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)[: len(self._texts)]
            mask = np.zeros_like(self._texts)
            mask[: len(words)] = words & self._texts[: len(words)]
            self._check(mask)
            self._next = mask
        return self._next

    def _check(self, mask: np.ndarray) -> None:
        if mask.any() or self.is_complete:
            return
        problem = reason(self._matcher.get_error())
        if problem and not problem.startswith(_NO_TOKEN):
            raise GrammarError(f"{self.grammar.name} takes too much work here: {problem}")
        raise GrammarError(f"{self.grammar.name} allows no token of this vocabulary here")


class _TokenTable:
    """A vocabulary as llguidance wants it: the bytes of each token, none for what is no text, and an end of its own.

    The end has the first id past the vocabulary: a constraint adds the tokenizer's end ids itself.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids = ()

    def __init__(self, tokenizer: Tokenizer):
        silent = {*tokenizer.vocabulary.ids_of_types(*_NO_TEXT), *tokenizer.end_ids}
        texts = [b"" if index in silent else tokenizer.piece_bytes(index) for index in range(tokenizer.vocab_size)]
        self.eos_token_id = tokenizer.vocab_size
        self.tokens = [*texts, b"\xff<end>"]  # 0xFF, which no text has, marks special tokens

    def __call__(self, text: bytes) -> list[int]:
        raise NotImplementedError("asked for only where tokens are forced, and none are")


def _table(tokenizer: Tokenizer) -> Any:
    """llguidance's table of a vocabulary: a tree of all tokens, which takes a while to make and is kept."""
    if tokenizer not in _tables:
        table = _TokenTable(tokenizer)
        _tables[tokenizer] = llguidance().LLTokenizer(table)
        table.tokens = []  # llguidance has its own copy, and keeps this object
    return _tables[tokenizer]


def _mask(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """uint32 (ceil(vocab_size / 32),) with the bits of these ids; those past the end are left out."""
    is_set = np.zeros((vocab_size + 31) // 32 * 32, np.uint8)
    is_set[ids[ids < vocab_size]] = 1
    return np.packbits(is_set, bitorder="little").view("<u4").astype(np.uint32)
