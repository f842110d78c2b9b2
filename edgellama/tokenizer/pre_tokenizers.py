"""How byte-level BPE vocabularies split a text into words before any merge: one row per `tokenizer.ggml.pre`.

A row holds regular expressions that are applied one after the other: each splits the pieces that the one before it
left, into its matches and the gaps between them. The patterns are those of the models' own tokenizer.json, or of
llama.cpp where the name is llama.cpp's own ("default") or the original is not public. The names, too, are llama.cpp's:
its converters write them.
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
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_WORD = rf"{_CONTRACTION}|{_LETTERS}"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"


def _cased_word(contraction: str = "", without: str = "") -> str:
    """A word of capitals, then lower-case letters, either part optional; `without`: what its letters must not be."""
    upper = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{without}]"
    lower = rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{without}]"
    before = r"[^\r\n\p{L}\p{N}]?"
    return rf"{before}{upper}*{lower}+{contraction}|{before}{upper}+{lower}*{contraction}"


_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3_WORDS = rf"{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACES}"
_QWEN2_WORDS = rf"{_WORD}|\p{{N}}|{_SYMBOLS}|{_SPACES}"
_QWEN35_WORDS = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_JAIS2_SPACES = "".join(rf"|\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
_JAIS2_WORDS = rf"{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|\s*[\r\n]+{_JAIS2_SPACES}|\s"
_PATHS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_TEKKEN_WORDS = rf"{_cased_word()}|\p{{N}}|{_PATHS}|{_SPACES}"
_GPT4O_WORDS = rf"{_cased_word(_CONTRACTION + '?')}|\p{{N}}{{1,3}}|{_PATHS}|{_SPACES}"
_YOUTU_WORDS = rf"{_cased_word(_CONTRACTION + '?')}|\p{{N}}|{_PATHS}|{_SPACES}"
_NOT_HAN_WORD = _cased_word(_CONTRACTION + "?", without=r"--\p{Han}")  # the difference of two sets, which needs (?V1)
_KIMI_WORDS = rf"(?V1)\p{{Han}}+|{_NOT_HAN_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACES}"
_BAILING_WORDS = rf"'(?i:[sdmt]|ll|ve|re)|{_LETTERS}|\p{{N}}|{_SYMBOLS}|\s*[\r\n]|\s+(?!\S)|\s+"
_SEED_WORDS = rf"{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
_EXAONE_MOE_WORDS = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_BLOOM_WORDS = r" ?[^(\s|.,!?…。，、।۔،)]+"
_DEEPSEEK_V3_START = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"""
)
_DEEPSEEK_V3_WORDS = rf"{_DEEPSEEK_V3_START}[\r\n]*|{_SPACES}"
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
_DEEPSEEK_CJK = r"[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"
_CJK = r"[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"
_YOUTU_SCRIPTS = (
    r"[\uAC00-\uD7A3\u3131-\u318E]+|[\uFF01\u2026\u201C\u201D\u2018\u2019\u2014\uFF1A\uFF1B\uFF0C\u3001-\u303F"
    rf"\uFE30-\uFE4F]+|[\u3105-\u312F]+|{_CJK}"
)
_AFMOE_SCRIPTS = (
    r"[\u4E00-\u9FFF\u3400-\u4DBF\uF900-\uFAFF\u3040-\u309F\u30A0-\u30FF\uFF65-\uFF9F\u2F00-\u2FDF\u0E40-\u0E7F"
    r"\u0E80-\u0EFF\u1780-\u17FF\u1000-\u109F\uAA60-\uAA7F\uA9E0-\uA9FF\uAC00-\uD7AF\u1100-\u11FF]+"
)

# Digits in threes from the right: the first one or two of a run are cut off, after which threes from the left will do.
# The originals look at all that is left of a run from every digit of it, in time that grows with the run's square.
_HEAD_OF_THREES = r"\A\d{1,2}(?=(?:\d{3})+\z)"
_NUMBER = r"(?<!\d)\d++(?![\p{L}\p{M}\p{N}\p{Pc}])"  # none in 1234th
_START_OF_THREES = r"(?<=(?<!\d)\d{0,2})(?=(?:\d{3})++(?!\d))"

_CHAMELEON = PreTokenizer(
    (
        "<sentinel:[0-9]+>",
        "IMGIMG[A-I]{1,4}Z",
        "[\t\n]|    |  ",
        r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]",
        _GPT2_WORDS,
    ),
    adds_bos=True,
)
_DEEPSEEK_CODER = PreTokenizer(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_CJK, r"\p{N}"))
_DEEPSEEK_LLM = PreTokenizer(
    (
        "[\r\n]",
        rf"\s?[{_CASED_LETTERS}]+",
        r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
        r"(?<!\s)\s++$",  # \s+$, tried once for a run of spaces
        _DEEPSEEK_CJK,
        r"\p{N}+",
    )
)
_SPARK = PreTokenizer((r"\p{N}{1,3}", _CJK, rf"{_DEEPSEEK_V3_START}|[\r\n]|\s+(?!\S)|\s+", r"\p{N}"))
_AFMOE = PreTokenizer(
    (r"\p{N}+", _HEAD_OF_THREES.replace(r"\d", r"\p{N}"), r"\p{N}{1,3}", _AFMOE_SCRIPTS, _DEEPSEEK_V3_WORDS)
)

_NAMES = (
    (PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]")), "default"),
    (PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2_WORDS, "[0-9][0-9][0-9]")), "falcon"),
    (
        PreTokenizer((_GPT2_WORDS,)),
        "gpt-2 gpt-neox gptneox pythia mpt olmo phi-2 jais exaone4 gigachat granite-docling mellum trillion a.x-4.0"
        " modern-bert roberta-bpe jina-v1-en jina-v2-code jina-v2-de jina-v2-es jina-de jina-es",
    ),
    (
        PreTokenizer((r"\p{N}", _GPT2_WORDS)),
        "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
    ),
    (
        PreTokenizer((_LLAMA3_WORDS,), whole_words=True, adds_bos=True),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (PreTokenizer((_LLAMA3_WORDS,), whole_words=True), "glm4 glm5"),
    (PreTokenizer((_LLAMA3_WORDS,)), "chatglm-bpe dbrx smaug-bpe"),
    (PreTokenizer((r"\p{N}{1,3}", _LLAMA3_WORDS), whole_words=True), "minicpm5"),
    (PreTokenizer((_JAIS2_WORDS,)), "jais-2"),
    (
        PreTokenizer((_QWEN2_WORDS,)),
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
    ),
    (PreTokenizer((_QWEN35_WORDS,)), "qwen35"),
    (PreTokenizer((r"[^\n]+|\n+", _QWEN2_WORDS)), "laguna"),
    (PreTokenizer((rf"{_LETTERS}|\p{{N}}|{_SYMBOLS}|{_SPACES}",)), "ufakzeka"),
    (PreTokenizer((_TEKKEN_WORDS,), whole_words=True, adds_bos=True), "tekken"),
    (PreTokenizer((_GPT4O_WORDS,)), "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (PreTokenizer((_GPT4O_WORDS,), whole_words=True), "granite-embed-multi-97m"),
    (PreTokenizer((_NUMBER, _HEAD_OF_THREES, _GPT4O_WORDS)), "tiny_aya cohere2moe"),
    (PreTokenizer((_YOUTU_SCRIPTS, _YOUTU_WORDS), whole_words=True), "youtu"),
    (PreTokenizer((_KIMI_WORDS,)), "kimi-k2"),
    (_DEEPSEEK_LLM, "deepseek-llm"),
    (_DEEPSEEK_CODER, "deepseek-coder"),
    (PreTokenizer((r"\p{N}{1,3}", _CJK, _DEEPSEEK_V3_WORDS)), "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    (_SPARK, "spark2_5"),
    (_AFMOE, "afmoe"),
    (PreTokenizer((_BAILING_WORDS,)), "bailingmoe bailingmoe2 llada-moe"),
    (PreTokenizer((_SEED_WORDS,)), "seed-coder"),
    (PreTokenizer((_EXAONE_MOE_WORDS,)), "exaone-moe"),
    (PreTokenizer((_BLOOM_WORDS,)), "bloom poro-chat gpt3-finnish"),
    (PreTokenizer((_BLOOM_WORDS, r"\p{N}")), "viking"),
    (PreTokenizer((r"\p{N}+", _START_OF_THREES, r"\d{3}(?=\d)")), "superbpe"),
    (_CHAMELEON, "chameleon"),
)
PRE_TOKENIZERS = {name: pre_tokenizer for pre_tokenizer, names in _NAMES for name in names.split()}
