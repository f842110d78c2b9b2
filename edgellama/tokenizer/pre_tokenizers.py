"""How byte-level BPE vocabularies split a text into words before any merge: one row per `tokenizer.ggml.pre`.

A row holds regular expressions that are applied one after the other: each splits the pieces that the one before it
left, into its matches and the gaps between them. The patterns are those of the models' own tokenizer.json, or of
llama.cpp where the name is llama.cpp's own ("default").
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class PreTokenizer:
    """`patterns` split the text in turn; `whole_words`: a word that is a token needs no merges to become it."""

    patterns: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False

    def split(self, text: str) -> list[str]:
        """The words of `text`; joined they are `text` again."""
        pieces = [text]
        for pattern in self._compiled:
            pieces = [word for piece in pieces for word in pattern.split(piece) if word]
        return pieces

    @cached_property
    def _compiled(self) -> list[Any]:
        import regex  # for \p{L} and its kin, which the standard library lacks

        # With a group around the whole pattern, `split` returns the matches as well as the gaps.
        return [regex.compile(f"({pattern})") for pattern in self.patterns]


_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_CASED_WORD = (  # a capitalised or lower-case word ends where the case changes
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+CONTRACTION"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*CONTRACTION"
)

_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3_WORDS = rf"{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACES}"
_QWEN2_WORDS = rf"{_WORD}|\p{{N}}|{_SYMBOLS}|{_SPACES}"
_QWEN35_WORDS = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_TEKKEN_WORDS = rf"{_CASED_WORD.replace('CONTRACTION', '')}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_GPT4O_WORDS = (
    rf"{_CASED_WORD.replace('CONTRACTION', _CONTRACTION + '?')}"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_BAILING_WORDS = rf"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_SYMBOLS}|\s*[\r\n]|\s+(?!\S)|\s+"
_SEED_WORDS = rf"{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
_BLOOM_WORDS = r" ?[^(\s|.,!?…。，、।۔،)]+"
_DEEPSEEK_V3_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
_CASED_LETTERS = (  # as the DeepSeek LLM tokenizer lists them; no Unicode property is the same set
    r"A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373"
    r"\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F"
    r"\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77"
    r"\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D"
    r"\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB"
    r"\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128"
    r"\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4"
    r"\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF"
    r"\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3"
    r"\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943"
)
_DEEPSEEK_CJK = "[一-龥ࠀ-一가-퟿]+"

_GPT2 = PreTokenizer((_GPT2_WORDS,))
_DIGITS_GPT2 = PreTokenizer((r"\p{N}", _GPT2_WORDS))
_LLAMA3 = PreTokenizer((_LLAMA3_WORDS,), whole_words=True, adds_bos=True)
_LLAMA3_MERGED = PreTokenizer((_LLAMA3_WORDS,))
_QWEN2 = PreTokenizer((_QWEN2_WORDS,))
_BLOOM = PreTokenizer((_BLOOM_WORDS,))
_BAILING = PreTokenizer((_BAILING_WORDS,))
_GPT4O = PreTokenizer((_GPT4O_WORDS,))
_DEEPSEEK_V3 = PreTokenizer((r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK_V3_WORDS))

PRE_TOKENIZERS = {
    "bailingmoe": _BAILING,
    "bailingmoe2": _BAILING,
    "bloom": _BLOOM,
    "chatglm-bpe": _LLAMA3_MERGED,
    "codeshell": _DIGITS_GPT2,
    "command-r": _DIGITS_GPT2,
    "dbrx": _LLAMA3_MERGED,
    "deepseek-coder": PreTokenizer(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_CJK, r"\p{N}")),
    "deepseek-llm": PreTokenizer(
        (
            "[\r\n]",
            rf"\s?[{_CASED_LETTERS}]+",
            r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
            r"\s+$",
            _DEEPSEEK_CJK,
            r"\p{N}+",
        )
    ),
    "deepseek-r1-qwen": _QWEN2,
    "deepseek-v3": _DEEPSEEK_V3,
    "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]")),
    "exaone": _DIGITS_GPT2,
    "exaone4": _GPT2,
    "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2_WORDS, "[0-9][0-9][0-9]")),
    "falcon-h1": _LLAMA3,
    "falcon3": _LLAMA3,
    "gigachat": _GPT2,
    "glm4": _LLAMA3_MERGED,
    "gpt-2": _GPT2,
    "gpt-4o": _GPT4O,
    "gpt3-finnish": _BLOOM,
    "granite-docling": _GPT2,
    "grok-2": _QWEN2,
    "hunyuan": _QWEN2,
    "hunyuan-dense": _DEEPSEEK_V3,
    "jais": _GPT2,
    "lfm2": _LLAMA3,
    "llada-moe": _BAILING,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "llama4": _GPT4O,
    "megrez": _QWEN2,
    "mellum": _GPT2,
    "midm-2.0": _LLAMA3,
    "minerva-7b": _DIGITS_GPT2,
    "mpt": _GPT2,
    "olmo": _GPT2,
    "phi-2": _GPT2,
    "pixtral": _LLAMA3,
    "poro-chat": _BLOOM,
    "qwen2": _QWEN2,
    "qwen35": PreTokenizer((_QWEN35_WORDS,)),
    "refact": _DIGITS_GPT2,
    "roberta-bpe": _GPT2,
    "seed-coder": PreTokenizer((_SEED_WORDS,)),
    "smaug-bpe": _LLAMA3_MERGED,
    "smollm": _DIGITS_GPT2,
    "stablelm2": _QWEN2,
    "starcoder": _DIGITS_GPT2,
    "tekken": PreTokenizer((_TEKKEN_WORDS,), whole_words=True, adds_bos=True),
    "trillion": _GPT2,
    "viking": PreTokenizer((_BLOOM_WORDS, r"\p{N}")),
}
