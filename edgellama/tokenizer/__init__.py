"""Text to token ids and back, rebuilt from the `tokenizer.ggml.*` keys of a GGUF file.

`vocabulary` reads and proves the keys, `spm` (SentencePiece) and `bpe` (byte-level BPE with the splitting rules of
`pre_tokenizers`) turn text into ids, `base` is what both share: special tokens, decoding, streaming.
"""

import os

from edgellama.errors import ModelError
from edgellama.gguf import GGUFFile, open_gguf
from edgellama.tokenizer.base import Tokenizer, TokenStream
from edgellama.tokenizer.bpe import BPETokenizer
from edgellama.tokenizer.spm import SentencePieceTokenizer

__all__ = ["TokenStream", "Tokenizer", "from_gguf"]

_KINDS: dict[str, type[Tokenizer]] = {"llama": SentencePieceTokenizer, "gpt2": BPETokenizer}
_NO_VOCABULARY = ("no_vocab", "none")


def from_gguf(source: str | os.PathLike[str] | GGUFFile) -> Tokenizer:
    """The tokenizer of a GGUF file, given by path or open. Raises GGUFError or ModelError, one sentence each.

    The tokenizer keeps nothing of the file: it may be closed afterwards.
    """
    if not isinstance(source, GGUFFile):
        with open_gguf(source) as file:
            return from_gguf(file)
    kind = source.get("tokenizer.ggml.model", str)
    if kind in _NO_VOCABULARY:
        raise ModelError(
            f"{source.path}: the file has no vocabulary (it says {kind!r}), so give it ids instead of a text"
        )
    if kind not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise ModelError(f"{source.path}: the tokenizer kind {kind[:40]!r} is not supported; supported are {known}")
    return _KINDS[kind](source)
