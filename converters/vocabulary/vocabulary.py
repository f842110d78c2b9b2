"""The tokens of a model on their way into a GGUF file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgellama.tokenizer.vocabulary import PREFIX_KEY, TokenType

SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"  # tokenizer.ggml.model
_ID_KEYS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "pad": "padding_token_id",
    "eot": "eot_token_id",
    "eom": "eom_token_id",
}
_LOWEST_SCORE = -1000.0  # of a token that SentencePiece must not make


@dataclass
class Vocabulary:
    """`special` has ids by role (bos, eos, unk, pad, eot, eom), `flags` and `templates` are keys of the file by name.

    `scores` belong to SentencePiece, `merges` and `pre`, the rule by which text is split, to byte-level BPE.
    """

    model: str
    tokens: list[bytes]
    types: list[TokenType]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    pre: str = "default"
    special: dict[str, int] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    charsmap: bytes = b""
    templates: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    prefix: list[int] = field(default_factory=list)  # ids before every text

    def put(self, token_id: int, token: bytes, kind: TokenType) -> None:
        """Set a token, with padding before it where it lies past the end."""
        self.pad(token_id + 1)
        self.tokens[token_id], self.types[token_id] = token, kind

    def pad(self, n_tokens: int) -> None:
        """Fill up to `n_tokens` with tokens that no text contains."""
        first = len(self.tokens)
        self.tokens += [b"[PAD%d]" % index for index in range(first, n_tokens)]
        self.types += [TokenType.UNUSED] * (n_tokens - first)
        if self.model == SENTENCEPIECE:
            self.scores += [_LOWEST_SCORE] * (n_tokens - first)

    def append(self, texts: Sequence[str], prefix: Sequence[str]) -> None:
        """Control tokens in the places behind the last token that is no padding, and what every text begins with."""
        n_tokens = len(self.tokens)
        while n_tokens and self.types[n_tokens - 1] == TokenType.UNUSED:
            n_tokens -= 1
        for index, text in enumerate(texts[: len(self.tokens) - n_tokens], n_tokens):
            self.put(index, text.encode(), TokenType.CONTROL)
        self.prefix = [self.tokens.index(text.encode()) for text in prefix if text.encode() in self.tokens]
        self.flags["add_bos_token"] = False

    def metadata(self) -> dict[str, Any]:
        """The `tokenizer.*` keys."""
        values: dict[str, Any] = {"model": self.model, "pre": self.pre, "tokens": self.tokens}
        if self.model == SENTENCEPIECE:
            values["scores"] = [float(score) for score in self.scores]
        values["token_type"] = [int(kind) for kind in self.types]
        if self.merges:
            values["merges"] = self.merges
        values |= {key: self.special[role] for role, key in _ID_KEYS.items() if role in self.special}
        values |= self.flags
        if self.charsmap:
            values["precompiled_charsmap"] = self.charsmap
        named = {f"tokenizer.ggml.{name}": value for name, value in values.items()}
        if self.prefix:
            named[PREFIX_KEY] = self.prefix
        return named | self._template_keys()

    def _template_keys(self) -> dict[str, Any]:
        others = sorted(self.templates.keys() - {"default"})
        keys: dict[str, Any] = {"tokenizer.chat_templates": others} if others else {}
        keys |= {f"tokenizer.chat_template.{name}": self.templates[name] for name in others}
        return keys | ({"tokenizer.chat_template": self.templates["default"]} if "default" in self.templates else {})
