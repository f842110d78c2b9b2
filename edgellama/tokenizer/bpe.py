"""Byte-level BPE vocabularies (`tokenizer.ggml.model` = "gpt2"): the merge list itself is the model.

A text is split into words (`pre_tokenizers`); a word's bytes are spelled in GPT-2's alphabet, one printable character
a byte, and the neighbours whose merge stands first in the list are joined until no merge applies. The words of a text
repeat, so each is merged once.

The merges are looked up as they lie in the file, b"left right": building the tables is two dictionaries and no loop.
A table of token ranks, as tiktoken takes, joins any two neighbours that make a token, whether or not the list has that
pair, and takes every word that is a token whole. The ids are the same only where the text of every token merges to that
token, which no file promises; 588 tokens of Llama 3 do not, and its `whole_words` rule alone makes up for it.
"""

from functools import lru_cache
from heapq import heapify, heappop, heappush

from edgellama.errors import ModelError
from edgellama.gguf import GGUFFile
from edgellama.tokenizer.base import Tokenizer
from edgellama.tokenizer.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from edgellama.tokenizer.vocabulary import KEY, TokenType, Vocabulary

_CACHED_WORDS = 1 << 16  # about 10 MB; English prose has some 50,000 different words
_CACHED_LENGTH = 64  # characters; longer words hardly repeat, and a text may be one long word


def _alphabet() -> list[str]:
    """GPT-2's character for each byte: itself where it is printable, else the next one from U+0100."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


_CHARACTERS = _alphabet()
SPELLED = [character.encode() for character in _CHARACTERS]  # byte -> its character in UTF-8
_BYTE_OF = {ord(character): byte for byte, character in enumerate(_CHARACTERS)}
_VERBATIM = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)  # not in that alphabet


class BPETokenizer(Tokenizer):
    """Byte-level BPE by merge list. User-defined tokens stand in a text as they are, found before it is split."""

    special_types = (TokenType.USER_DEFINED,)

    def __init__(self, file: GGUFFile):
        self._pre_tokenizer = _pre_tokenizer(file)
        self.adds_bos = self._pre_tokenizer.adds_bos
        super().__init__(file)
        self._verbatim = frozenset(self.vocabulary.ids_of_types(*_VERBATIM))
        self._ranks = _merge_ranks(file, self.vocabulary)
        self._word_ids = lru_cache(_CACHED_WORDS)(self._encode_word)

    def encode_text(self, text: str) -> list[int]:
        """The ids of `text`.

        A byte that has no token (Falcon lacks some control characters) becomes the unknown token, or nothing.
        """
        ids: list[int] = []
        for word in self._pre_tokenizer.split(text):
            ids.extend(self._word_ids(word) if len(word) <= _CACHED_LENGTH else self._encode_word(word))
        return ids

    def _encode_word(self, word: str) -> tuple[int, ...]:
        symbols = [SPELLED[byte] for byte in word.encode()]
        id_of = self.vocabulary.id_of
        if self._pre_tokenizer.whole_words and (whole := b"".join(symbols)) in id_of:
            return (id_of[whole],)
        ids = [id_of.get(symbol, self.vocabulary.unknown_id) for symbol in merge(symbols, self._ranks)]
        return tuple([index for index in ids if index is not None])

    def _bytes_of(self, token_id: int) -> bytes:
        token = self.vocabulary.tokens[token_id]
        if token_id in self._verbatim:
            return token
        try:
            return token.decode().translate(_BYTE_OF).encode("latin-1")
        except UnicodeError:  # padding tokens and the like are no bytes in GPT-2's alphabet
            return token


def merge(symbols: list[bytes], ranks: dict[bytes, int]) -> list[bytes]:
    """Join neighbours by rank, of equal ranks the leftmost first; `ranks` has b"left right". Changes `symbols`.

    A heap holds the possible merges and a doubly linked list the symbols, so that a word of n bytes (a line of
    Chinese, a base64 blob) costs n log n.
    """
    n = len(symbols)
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))
    rank_of = ranks.get
    heap = []
    for left in range(n - 1):
        rank = rank_of(symbols[left] + b" " + symbols[left + 1])
        if rank is not None:
            heap.append((rank, left, symbols[left], symbols[left + 1]))
    heapify(heap)
    while heap:
        _, left, left_symbol, right_symbol = heappop(heap)
        right = after[left]
        # An earlier merge may have taken either side.
        if right == n or symbols[left] is not left_symbol or symbols[right] is not right_symbol:
            continue
        symbols[left] = left_symbol + right_symbol
        symbols[right] = b""
        after[left] = after[right]
        if after[right] < n:
            before[after[right]] = left
        for first, second in ((before[left], left), (left, after[left])):
            if first >= 0 and second < n:
                rank = rank_of(symbols[first] + b" " + symbols[second])
                if rank is not None:
                    heappush(heap, (rank, first, symbols[first], symbols[second]))
    return [symbol for symbol in symbols if symbol]


def _pre_tokenizer(file: GGUFFile) -> PreTokenizer:
    name = file.get(KEY + "pre", str, "") or "default"
    if name not in PRE_TOKENIZERS:
        known = "edgellama/tokenizer/pre_tokenizers.py lists those that are"
        raise ModelError(f"{file.path}: the pre-tokenizer {name[:40]!r} is not supported; {known}")
    return PRE_TOKENIZERS[name]


def _merge_ranks(file: GGUFFile, vocabulary: Vocabulary) -> dict[bytes, int]:
    """b"left right" -> place in the list. Raises ModelError for an entry that is no pair or makes no token."""
    merges = file.raw_strings(KEY + "merges")
    joined = b"\n".join(merges)
    results = joined.replace(b" ", b"").split(b"\n") if merges else []
    if joined.count(b" ") != len(merges) or not all(map(vocabulary.id_of.__contains__, results)):
        _report_bad_merge(merges, vocabulary)
    return dict(zip(merges, range(len(merges)), strict=True))


def _report_bad_merge(merges: list[bytes], vocabulary: Vocabulary) -> None:
    for index, pair in enumerate(merges):
        if pair.count(b" ") != 1 or pair.replace(b" ", b"") not in vocabulary.id_of:
            vocabulary.fail("merges", f"has {pair[:60]!r} as entry {index}, which names no token")
