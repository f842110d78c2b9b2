"""Tokenizers: one file per form in which checkpoints carry them, all becoming a Vocabulary."""

from pathlib import Path

from ..errors import ConvertError
from ..fields import Fields
from .byte_level import read_vocab_and_merges
from .chat_templates import read_templates
from .llama2c_tokens import read_llama2c_tokens
from .pre_tokenizer_names import OF_CLASS
from .sentencepiece_model import read_sentencepiece
from .special_tokens import TokenFiles, add_tokens, set_flags, set_roles
from .tiktoken_ranks import is_tiktoken, read_tiktoken
from .tokenizer_json import read_tokenizer_json
from .vocabulary import BYTE_LEVEL, Vocabulary

_FORMS = "tokenizer.model, tokenizer.json, vocab.json with merges.txt, or llama2.c's tokenizer.bin"
_PATTERNS = ("tokenizer.json", "tokenizer.model", "*.tiktoken", "vocab.json", "tokenizer.bin", "tok*.bin")


def read_vocabulary(
    where: Path, config: Fields, generation: Fields, pre_tokenizer: str | None, n_rows: int
) -> Vocabulary:
    """The vocabulary of a folder, or in the file that `where` names, for an embedding of `n_rows` rows.

    Raises ConvertError when there is none, when it is larger than the embedding, or when it contradicts itself.
    """
    path = _tokenizer_file(where)
    vocabulary = _read(path, pre_tokenizer)
    files = TokenFiles.read(path.parent, config, generation)
    add_tokens(vocabulary, files, n_rows)
    if len(vocabulary.tokens) > n_rows:
        raise ConvertError(f"{path}: has {len(vocabulary.tokens)} tokens, and the embedding has {n_rows} rows")
    vocabulary.pad(n_rows)
    set_roles(vocabulary, files)
    set_flags(vocabulary, files)
    if vocabulary.model == BYTE_LEVEL:
        vocabulary.pre = _splitting_rule(vocabulary, path, files, pre_tokenizer)
    vocabulary.templates = read_templates(path.parent, files.tokenizer_config)
    return vocabulary


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer in one of the forms."""
    return any(True for pattern in _PATTERNS for _ in folder.glob(pattern))


def _tokenizer_file(where: Path) -> Path:
    """The best form that a folder has: a SentencePiece model is the original, all others were made from something."""
    if where.is_file():
        return where
    found = [path for pattern in _PATTERNS for path in sorted(where.glob(pattern))]
    originals = [path for path in found if path.name == "tokenizer.model" and not is_tiktoken(path)]
    if not found:
        raise ConvertError(f"{where}: has no tokenizer ({_FORMS}); name one with --tokenizer")
    return next(iter([*originals, *found]))


def _read(path: Path, pre_tokenizer: str | None) -> Vocabulary:
    if path.name == "vocab.json":
        return read_vocab_and_merges(path)
    if path.suffix == ".json":
        return read_tokenizer_json(path, pre_tokenizer)
    if path.suffix == ".bin":
        return read_llama2c_tokens(path)
    return read_tiktoken(path) if is_tiktoken(path) else read_sentencepiece(path)


def _splitting_rule(vocabulary: Vocabulary, path: Path, files: TokenFiles, pre_tokenizer: str | None) -> str:
    known = pre_tokenizer or (vocabulary.pre if vocabulary.pre != "default" else None)
    known = known or OF_CLASS.get(str(files.tokenizer_config.get("tokenizer_class")))
    if not known:
        raise ConvertError(f"{path}: does not say how text is split into words; name the rule with --pre-tokenizer")
    return known
