"""tokenizer.json, the form of the `tokenizers` library: byte-level BPE, and SentencePiece models rewritten as BPE.

https://github.com/huggingface/tokenizers. A rewritten SentencePiece model has lost its scores, but its merges stand in
the order of the scores of what they make, and the order is all that matters.
"""

import re
from pathlib import Path
from typing import Any

from edgellama.tokenizer.vocabulary import TokenType

from ..errors import ConvertError
from ..source_file import read_json
from .byte_level import placed
from .pre_tokenizer_names import components, described, name_of
from .vocabulary import BYTE_LEVEL, SENTENCEPIECE, Vocabulary

_BYTE_TOKEN = re.compile(rb"<0x[0-9A-F]{2}>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def read_tokenizer_json(path: Path, pre_tokenizer: str | None = None) -> Vocabulary:
    """The vocabulary without the added tokens; `pre_tokenizer` is taken as the splitting rule, unseen."""
    document = read_json(path)
    model = document.get("model")
    if not isinstance(model, dict):
        raise ConvertError(f"{path}: has no model")
    try:
        return _read(path, document, model, pre_tokenizer)
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
        raise ConvertError(f"{path}: is damaged: {type(error).__name__} {error}") from error


def added_tokens(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries id, content, special that stand beside the model."""
    entries = document.get("added_tokens")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def framing_token(document: dict[str, Any], last: bool) -> str | None:
    """The special token that the post-processor puts first, or last; "" for none, None where it does not say."""
    for processor in components(document.get("post_processor"), "processors"):
        template = processor.get("single")
        if processor.get("type") == "TemplateProcessing" and isinstance(template, list) and template:
            part = template[-1 if last else 0]
            special = part.get("SpecialToken") if isinstance(part, dict) else None
            return str(special.get("id", "")) if isinstance(special, dict) else ""
    return None


def _read(path: Path, document: dict, model: dict, pre_tokenizer: str | None) -> Vocabulary:
    kind = model.get("type") or ("BPE" if "merges" in model else "nothing known")
    if kind == "Unigram":
        return _read_unigram(path, document, model)
    if kind != "BPE":
        raise ConvertError(f"{path}: is a {kind[:40]} model, and only BPE can be converted")
    steps = [
        *components(document.get("pre_tokenizer"), "pretokenizers"),
        *components(document.get("decoder"), "decoders"),
    ]
    if any(step.get("type") == "ByteLevel" for step in steps):
        return _read_byte_level(path, document, model, pre_tokenizer)
    return _read_rewritten(path, document, model)


def _merges(model: dict) -> list[tuple[str, str]]:
    """Pairs; older files have them as one text with a space between."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("a merge that is no pair")
    return pairs


def _read_byte_level(path: Path, document: dict, model: dict, pre_tokenizer: str | None) -> Vocabulary:
    rule = document.get("pre_tokenizer")
    pre = pre_tokenizer or name_of(rule, bool(model.get("ignore_merges")))
    if pre is None:
        raise ConvertError(
            f"{path}: splits text {described(rule)}, which has no name; name the nearest rule with --pre-tokenizer"
        )
    merges = [f"{left} {right}" for left, right in _merges(model)]
    return Vocabulary(BYTE_LEVEL, *placed(model["vocab"].items(), path), merges=merges, pre=pre)


def _read_rewritten(path: Path, document: dict, model: dict) -> Vocabulary:
    """The score of a token is minus the place of the first merge that makes it."""
    if not model.get("byte_fallback"):
        raise ConvertError(f"{path}: is a BPE model of neither bytes nor SentencePiece, and cannot be converted")
    tokens, types = placed(model["vocab"].items(), path)
    places: dict[bytes, int] = {}
    for place, (left, right) in enumerate(_merges(model)):
        places.setdefault((left + right).encode(), place)
    scores = [-float(places.get(token, 0)) for token in tokens]
    return _sentencepiece(document, tokens, types, scores, model.get("unk_token"))


def _read_unigram(path: Path, document: dict, model: dict) -> Vocabulary:
    """A table of tokens with scores. BPE's scores are 0, -1, -2 ...; others belong to an algorithm not known here."""
    tokens = [str(text).encode() for text, _ in model["vocab"]]
    scores = [float(score) for _, score in model["vocab"]]
    if not model.get("byte_fallback") or any(score != int(score) for score in scores):
        raise ConvertError(f"{path}: is a Unigram model, and only BPE can be converted")
    unknown = model["vocab"][model["unk_id"]][0] if model.get("unk_id") is not None else None
    return _sentencepiece(document, tokens, [TokenType.NORMAL] * len(tokens), scores, unknown)


def _sentencepiece(
    document: dict, tokens: list[bytes], types: list[TokenType], scores: list[float], unknown: str | None
) -> Vocabulary:
    types = [
        TokenType.BYTE if _BYTE_TOKEN.fullmatch(token) else kind for token, kind in zip(tokens, types, strict=True)
    ]
    vocabulary = Vocabulary(SENTENCEPIECE, tokens, types, scores)
    unknown_text = (unknown or "<unk>").encode()
    if unknown_text in tokens:
        vocabulary.special["unk"] = tokens.index(unknown_text)
        types[vocabulary.special["unk"]] = TokenType.UNKNOWN
    vocabulary.flags = {"add_space_prefix": _adds_space(document), "remove_extra_whitespaces": False}
    return vocabulary


def _adds_space(document: dict) -> bool:
    """Whether a space is put before a text: by a Metaspace step, or by a normalizer that prepends one."""
    for step in components(document.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") == "Metaspace":
            return step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True)
    normalizers = components(document.get("normalizer"), "normalizers")
    return any(step.get("type") == "Prepend" and step.get("prepend") == _SPACE for step in normalizers)
