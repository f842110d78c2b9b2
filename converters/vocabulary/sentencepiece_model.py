"""SentencePiece models: tokens with scores, and how the library treats spaces.

https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

import struct
from pathlib import Path

from edgellama.tokenizer.vocabulary import TokenType

from ..errors import ConvertError
from ..source_file import read_bytes
from .protobuf import fields
from .vocabulary import SENTENCEPIECE, Vocabulary

_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of ModelProto
_MODEL_TYPE, _SPACE_AS_SUFFIX = 3, 24  # of TrainerSpec
_BPE = 2
_IDS = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}  # role -> field of TrainerSpec, default
_CHARSMAP, _DUMMY_PREFIX, _REMOVE_SPACES, _ESCAPE_SPACES = 2, 3, 4, 5  # of NormalizerSpec
_NONE = (1 << 64) - 1  # -1 as a varint
_SCORE = struct.Struct("<f")


def read_sentencepiece(path: Path) -> Vocabulary:
    """The vocabulary of a BPE model. Raises ConvertError for other kinds of model and for damage."""
    try:
        return _read(path)
    except (ValueError, TypeError, AttributeError, struct.error) as error:
        raise ConvertError(f"{path}: is no SentencePiece model, or a damaged one: {error}") from error


def _read(path: Path) -> Vocabulary:
    tokens, types, scores = [], [], []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in fields(read_bytes(path)):
        if number == _PIECE:
            token, score, kind = _piece(value)
            tokens.append(token)
            scores.append(score)
            types.append(kind)
        elif number in (_TRAINER, _NORMALIZER):
            (trainer if number == _TRAINER else normalizer).update(fields(value))
    if not tokens:
        raise ValueError("it has no tokens")
    _refuse_other_models(path, trainer, normalizer)
    flags = {
        "add_space_prefix": bool(normalizer.get(_DUMMY_PREFIX, 1)),
        "remove_extra_whitespaces": bool(normalizer.get(_REMOVE_SPACES, 1)),
    }
    charsmap = normalizer.get(_CHARSMAP, b"")
    ids = {role: int(trainer.get(number, default)) for role, (number, default) in _IDS.items()}
    special = {role: index for role, index in ids.items() if 0 <= index < len(tokens)}
    return Vocabulary(SENTENCEPIECE, tokens, types, scores, special=special, flags=flags, charsmap=charsmap)


def _piece(message: bytes) -> tuple[bytes, float, TokenType]:
    values = dict(fields(message))
    score = _SCORE.unpack(values[2])[0] if 2 in values else 0.0
    return values.get(1, b""), score, TokenType(values.get(3, TokenType.NORMAL))


def _refuse_other_models(path: Path, trainer: dict, normalizer: dict) -> None:
    if trainer.get(_MODEL_TYPE) != _BPE:
        raise ConvertError(f"{path}: is a SentencePiece model that is not BPE, and only BPE can be converted")
    if trainer.get(_SPACE_AS_SUFFIX) or not normalizer.get(_ESCAPE_SPACES, 1):
        raise ConvertError(f"{path}: treats spaces in a way that GGUF files cannot say")
