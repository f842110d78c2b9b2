"""Which `tokenizer.ggml.pre` a tokenizer.json splits text by: its patterns are looked up in the runtime's own table."""

import re
from collections.abc import Iterator
from typing import Any

from edgellama.tokenizer.pre_tokenizers import PRE_TOKENIZERS

# Several names stand for one rule; these are the ones other programs know best.
_PREFERRED = ("gpt-2", "llama-bpe", "smaug-bpe", "qwen2", "starcoder", "gpt-4o", "deepseek-v3", "tekken")
_GPT2_WORDS = PRE_TOKENIZERS["gpt-2"].patterns[0]
_PUNCTUATION = PRE_TOKENIZERS["falcon"].patterns[0]

# The classes of transformers whose vocab.json and merges.txt say nothing of splitting.
OF_CLASS = {
    "GPT2Tokenizer": "gpt-2",
    "GPT2TokenizerFast": "gpt-2",
    "CodeGenTokenizer": "gpt-2",
    "Qwen2Tokenizer": "qwen2",
    "Qwen2TokenizerFast": "qwen2",
}


def components(node: Any, parts: str) -> Iterator[dict[str, Any]]:
    """The parts of a pre-tokenizer, normalizer, decoder or post-processor; a Sequence lists them under `parts`."""
    if not isinstance(node, dict):
        return
    if node.get("type") != "Sequence":
        yield node
        return
    for part in node.get(parts) or ():
        if isinstance(part, dict):
            yield part


def name_of(pre_tokenizer: Any, whole_words: bool) -> str | None:
    """The name of the rule, or None for one that is not known. `whole_words`: the model's ignore_merges.

    A vocabulary whose every token its merges can make is the same with and without whole words, so a rule that
    differs only in that is better than none.
    """
    patterns = _patterns(pre_tokenizer)
    names = [name for name in (*_PREFERRED, *PRE_TOKENIZERS) if PRE_TOKENIZERS[name].patterns == patterns]
    exact = [name for name in names if PRE_TOKENIZERS[name].whole_words == whole_words]
    return next(iter([*exact, *names]), None)


def described(pre_tokenizer: Any) -> str:
    """The patterns in short, for messages."""
    patterns = _patterns(pre_tokenizer)
    return "in a way unknown here" if not patterns else f"by {' then '.join(patterns)[:120]!r}"


def _patterns(pre_tokenizer: Any) -> tuple[str, ...] | None:
    found = [_pattern(part) for part in components(pre_tokenizer, "pretokenizers")]
    return None if None in found else tuple(pattern for pattern in found if pattern)


def _pattern(part: dict[str, Any]) -> str | None:
    """One step as a regular expression; empty for a step that does not split, None for one that is not known."""
    read = _STEPS.get(str(part.get("type")))
    return read(part) if read else None


def _split(part: dict[str, Any]) -> str | None:
    pattern = part.get("pattern")
    kept = (part.get("behavior"), bool(part.get("invert"))) in (("Isolated", False), ("Removed", True))
    if not kept or not isinstance(pattern, dict):
        return None
    return pattern["Regex"] if "Regex" in pattern else re.escape(str(pattern.get("String")))


_STEPS = {
    "Split": _split,
    "ByteLevel": lambda part: _GPT2_WORDS if part.get("use_regex", True) else "",
    "Digits": lambda part: r"\p{N}" if part.get("individual_digits") else r"\p{N}+",
    "Punctuation": lambda part: _PUNCTUATION if part.get("behavior") == "Contiguous" else None,
}
