"""tiktoken files: one token in base64 and its rank on each line, made into a merge list.

tiktoken joins any two neighbours that make a token, the token of lowest rank first: so every way to cut a token into
two others is a merge, in the order of the ranks of what is made.
"""

import base64
import re
from pathlib import Path

from edgellama.tokenizer.bpe import SPELLED as SPELLED
from edgellama.tokenizer.vocabulary import TokenType

from ..errors import ConvertError
from ..source_file import read_bytes
from .vocabulary import BYTE_LEVEL, Vocabulary

_LINE = re.compile(rb"([A-Za-z0-9+/]+=*) (\d{1,9})")
_LONGEST_TOKEN_BYTES = 4096

# Neither the splitting rule nor the special tokens stand in the file; its length tells which model's it is.
_LLAMA_3 = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 248)),
)
_KNOWN = {
    128000: ("llama-bpe", _LLAMA_3, {"bos": 128000, "eos": 128001, "eom": 128008, "eot": 128009}),
}


def is_tiktoken(path: Path) -> bool:
    """Whether the file begins with a line of a token and its rank."""
    with path.open("rb") as file:
        return _LINE.fullmatch(file.readline(_LONGEST_TOKEN_BYTES).rstrip(b"\r\n")) is not None


def read_tiktoken(path: Path) -> Vocabulary:
    """Byte-level BPE with the merges in the order of the ranks."""
    ranks = _read_ranks(path)
    tokens = sorted(ranks, key=ranks.__getitem__)
    if [ranks[token] for token in tokens] != list(range(len(tokens))):
        raise ConvertError(f"{path}: its ranks are not 0 to {len(tokens) - 1}, each once")
    spelled = [b"".join(SPELLED[byte] for byte in token) for token in tokens]
    names = dict(zip(tokens, map(bytes.decode, spelled), strict=True))
    merges = [f"{names[left]} {names[right]}" for token in tokens for left, right in _cuts(token, ranks)]
    vocabulary = Vocabulary(BYTE_LEVEL, spelled, [TokenType.NORMAL] * len(tokens), merges=merges, pre="")
    pre, special_tokens, special = _KNOWN.get(len(tokens), ("", (), {}))
    for index, text in enumerate(special_tokens, start=len(tokens)):
        vocabulary.put(index, text.encode(), TokenType.CONTROL)
    vocabulary.pre, vocabulary.special = pre, dict(special)
    vocabulary.flags = {"add_bos_token": "bos" in special}
    return vocabulary


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if line and not match:
            raise ConvertError(f"{path}: line {number} is no token in base64 with its rank")
        if match:
            ranks[base64.b64decode(match[1] + b"==")] = int(match[2])
    return ranks


def _cuts(token: bytes, ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pairs of tokens that make `token`, the pair of lowest ranks first."""
    cuts = [(token[:place], token[place:]) for place in range(1, len(token))]
    known = [(left, right) for left, right in cuts if left in ranks and right in ranks]
    return sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
