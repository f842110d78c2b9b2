"""What every tokenizer shares: special tokens, decoding, and streaming whole characters.

A subclass supplies two things: `encode_text`, ids of a stretch of plain text, and `_bytes_of`, the bytes a token
stands for. Control tokens (`<s>`, `<|im_end|>`) are recognised in a text only on request, so that a user's text
cannot forge them.
"""

import codecs
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property

from edgellama.errors import EdgellamaError
from edgellama.gguf import GGUFFile
from edgellama.tokenizer.special import SpecialTokens
from edgellama.tokenizer.vocabulary import KEY, PREFIX_KEY, TokenType, Vocabulary

_SURROGATES = re.compile("[\ud800-\udfff]")
_MARK = "\ufdd0"  # a noncharacter, which no text means: it keeps a control token's text from being read as the token


class Tokenizer(ABC):
    """Text to ids and back for one vocabulary.

    `vocab_size`; `bos_id` and `eos_id` (None where the model has none); `end_ids`, the set of ids that end an answer.
    """

    adds_bos = False  # what the file's silence means
    special_types: tuple[TokenType, ...] = ()  # types that are found in every text, before `encode_text` sees it
    leading_spaces: float = 0  # how many spaces at the start of a decoded text `encode_text` would put there or drop

    def __init__(self, file: GGUFFile):
        self.vocabulary = Vocabulary(file)
        self.vocab_size = len(self.vocabulary.tokens)
        self.bos_id = self.vocabulary.bos_id
        self.eos_id = self.vocabulary.eos_id
        self.end_ids = self.vocabulary.end_ids
        self.adds_bos = file.get(KEY + "add_bos_token", bool, self.adds_bos)
        self.adds_eos = file.get(KEY + "add_eos_token", bool, False)
        self._own_prefix = self.vocabulary.ids_at(file, PREFIX_KEY)
        self._special = frozenset(self.vocabulary.ids_of_types(TokenType.CONTROL, TokenType.UNKNOWN))

    @cached_property
    def prefix_ids(self) -> tuple[int, ...]:
        """What the model wants before every text: mostly the BOS token, or nothing, or what the file says."""
        if self._own_prefix:
            return self._own_prefix
        return (self.bos_id,) if self.adds_bos and self.bos_id is not None else ()

    @abstractmethod
    def encode_text(self, text: str) -> list[int]:
        """The ids of plain text, which holds no special token."""

    @abstractmethod
    def _bytes_of(self, token_id: int) -> bytes:
        """The bytes that a token of this vocabulary stands for."""

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """The ids of `text`; with the BOS and EOS ids that the model wants around it, if `add_special`.

        With `parse_special`, the texts of control tokens become their ids; use it for templates, never for text from
        outside. Characters that UTF-8 cannot carry (lone surrogates) count as U+FFFD.
        """
        ids = [*self.prefix_ids] if add_special else []
        special, encode = self._always_special, self.encode_text
        if parse_special:
            special, encode = self._all_special, self._encode_protected
        for part in special.split(_SURROGATES.sub("\ufffd", text)):
            ids.extend([part] if isinstance(part, int) else encode(part))
        if add_special and self.adds_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def protect(self, text: str) -> str:
        """`text` marked so that encode() with `parse_special` reads no control token in it, only text.

        For what a user wrote and a template puts between its own control tokens.
        """
        parts = []
        for part in self._all_special.split(text.replace(_MARK, "\ufffd")):
            piece = part if isinstance(part, str) else self.vocabulary.tokens[part].decode(errors="replace")
            is_forged = not isinstance(part, str) and self.is_special(part)
            parts.append(piece[:1] + _MARK + piece[1:] if is_forged else piece)
        return "".join(parts)

    def _encode_protected(self, text: str) -> list[int]:
        if _MARK not in text:
            return self.encode_text(text)
        ids: list[int] = []
        for part in self._always_special.split(text.replace(_MARK, "")):
            ids.extend([part] if isinstance(part, int) else self.encode_text(part))
        return ids

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of `ids`, read as the beginning of a text. Bytes that are no UTF-8 become U+FFFD."""
        stream = self.stream(skip_special=skip_special, at_start=True)
        return "".join([*map(stream.push, ids), stream.finish()])

    def stream(self, skip_special: bool = True, at_start: bool = False, shown: Iterable[str] = ()) -> "TokenStream":
        """A decoder for ids that come one by one. `shown`: texts of control tokens that are not skipped.

        `at_start`: the first id begins a text, so a space that `encode` put in front of it is taken away again;
        otherwise the ids continue a text (a prompt) and every space is meant.
        """
        ids = {self.vocabulary.id_of.get(text.encode()) for text in shown}
        return TokenStream(self, skip_special, at_start, frozenset(ids - {None}))

    def piece_bytes(self, token_id: int) -> bytes:
        """The bytes of one token; half a character is possible. Raises EdgellamaError for an id past the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            raise EdgellamaError(f"token id {token_id} is outside the vocabulary, which has 0 to {self.vocab_size - 1}")
        return self._bytes_of(int(token_id))

    def is_special(self, token_id: int) -> bool:
        """Whether a token is a control or unknown token, which is no part of a text."""
        return token_id in self._special

    @cached_property
    def _always_special(self) -> SpecialTokens:
        return SpecialTokens(self.vocabulary, self.special_types)

    @cached_property
    def _all_special(self) -> SpecialTokens:
        return SpecialTokens(self.vocabulary, (TokenType.CONTROL, TokenType.UNKNOWN, *self.special_types))


class TokenStream:
    """Turns ids into text as they come; a character is held back until its last byte is there."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool, at_start: bool, shown: frozenset[int] = frozenset()):
        self._tokenizer = tokenizer
        self._skip_special, self._shown = skip_special, shown
        self._spaces_to_drop = tokenizer.leading_spaces if at_start else 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that `token_id` completes, perhaps none. Raises EdgellamaError for an id past the vocabulary."""
        piece = self._tokenizer.piece_bytes(token_id)
        if self._tokenizer.is_special(token_id):
            is_skipped = self._skip_special and token_id not in self._shown
            return "" if is_skipped else self._decoder.decode(piece)
        return self._decoder.decode(self._without_leading_spaces(piece) if self._spaces_to_drop else piece)

    def finish(self) -> str:
        """What is left: U+FFFD for a character that never got its last byte, else nothing."""
        return self._decoder.decode(b"", final=True)

    def _without_leading_spaces(self, piece: bytes) -> bytes:
        n_dropped = min(len(piece) - len(piece.lstrip(b" ")), self._spaces_to_drop)
        self._spaces_to_drop -= n_dropped
        rest = piece[int(n_dropped) :]
        if rest:
            self._spaces_to_drop = 0
        return rest
