"""tokenizer.bin of llama2.c: SentencePiece's tokens and scores, with spaces written as spaces.

https://github.com/karpathy/llama2.c/blob/master/tokenizer.py. The first three are <unk>, <s> and </s>; the file does
not say whether SentencePiece removed extra spaces, and llama2.c does not.
"""

import re
import struct
from pathlib import Path

from edgellama.tokenizer.vocabulary import TokenType

from ..errors import ConvertError
from ..source_file import read_bytes
from .vocabulary import SENTENCEPIECE, Vocabulary

_LONGEST = struct.Struct("<i")  # length of the longest token, at the beginning
_HEAD = struct.Struct("<fi")  # score and length of a token
_BYTE_TOKEN = re.compile(rb"<0x[0-9A-F]{2}>")
_FIRST = ((b"<unk>", TokenType.UNKNOWN), (b"<s>", TokenType.CONTROL), (b"</s>", TokenType.CONTROL))
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}".encode()


def read_llama2c_tokens(path: Path) -> Vocabulary:
    """The vocabulary of a llama2.c tokenizer file."""
    data, position = read_bytes(path), _LONGEST.size
    tokens, scores = [], []
    while position < len(data):
        if len(data) - position < _HEAD.size:
            raise ConvertError(f"{path}: ends inside token {len(tokens)}; fetch it again")
        score, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if not 0 <= length <= len(data) - position:
            raise ConvertError(f"{path}: token {len(tokens)} claims {length} bytes, and {len(data) - position} remain")
        tokens.append(data[position : position + length].replace(b" ", _SPACE))
        scores.append(score)
        position += length
    if len(tokens) < len(_FIRST):
        raise ConvertError(f"{path}: holds {len(tokens)} tokens, and is no tokenizer of llama2.c")
    types = [TokenType.BYTE if _BYTE_TOKEN.fullmatch(token) else TokenType.NORMAL for token in tokens]
    vocabulary = Vocabulary(SENTENCEPIECE, tokens, types, scores, special={"unk": 0, "bos": 1, "eos": 2})
    for index, (token, kind) in enumerate(_FIRST):
        vocabulary.put(index, token, kind)
    vocabulary.flags = {"add_space_prefix": True, "remove_extra_whitespaces": False}
    return vocabulary
