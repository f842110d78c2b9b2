"""What the small files of a Hugging Face folder say of tokens: added ones, roles, what is put around a text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellama.tokenizer.vocabulary import TokenType

from ..fields import Fields
from ..source_file import read_optional_json
from .byte_level import LARGEST_ID
from .tokenizer_json import added_tokens, framing_token
from .vocabulary import SENTENCEPIECE, Vocabulary

_ROLES = ("bos", "eos", "unk", "pad")
_PLACES = {"bos": False, "eos": True}  # whether a role's token stands after the text
_KEPT = (TokenType.UNKNOWN, TokenType.BYTE)  # whatever else is said of them


@dataclass(frozen=True)
class TokenFiles:
    """The files of one folder that speak of tokens; those that are not there are empty."""

    folder: Path
    config: Fields
    generation: Fields
    tokenizer_config: dict[str, Any]
    special_map: dict[str, Any]
    tokenizer_json: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, config: Fields, generation: Fields) -> "TokenFiles":
        names = ("tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")
        return cls(folder, config, generation, *(read_optional_json(folder / name) for name in names))

    def text_of(self, role: str) -> str | None:
        """The text of a role's token, which may stand inside an object, or only around the text."""
        for values in (self.tokenizer_config, self.special_map):
            entry = values.get(f"{role}_token")
            text = entry.get("content") if isinstance(entry, dict) else entry
            if isinstance(text, str) and text:
                return text
        framing = framing_token(self.tokenizer_json, _PLACES[role]) if role in _PLACES else None
        return framing or None


def add_tokens(vocabulary: Vocabulary, files: TokenFiles, n_rows: int) -> None:
    """Put the added tokens in their places; those past the rows of the embedding cannot be used and stay out."""
    left_out = []
    for index, (text, special) in sorted(_added(files).items()):
        if index >= n_rows:
            left_out.append(text)
        elif not (index < len(vocabulary.tokens) and vocabulary.types[index] in _KEPT):
            vocabulary.put(index, text.encode(errors="replace"), _kind(special))
    if left_out:
        vocabulary.notes.append(f"the embedding has no row for {', '.join(map(repr, left_out))[:120]}: left out")


def _kind(special: bool) -> TokenType:
    return TokenType.CONTROL if special else TokenType.USER_DEFINED


def _added(files: TokenFiles) -> dict[int, tuple[str, bool]]:
    """Id -> text, whether special; what stands later in this function knows better."""
    found: dict[int, tuple[str, bool]] = {}
    for text, index in read_optional_json(files.folder / "added_tokens.json").items():
        _note(found, index, text, text in _special_texts(files))
    for entry in added_tokens(files.tokenizer_json):
        _note(found, entry.get("id"), entry.get("content"), entry.get("special"))
    decoder = files.tokenizer_config.get("added_tokens_decoder")
    for index, entry in (decoder if isinstance(decoder, dict) else {}).items():
        if isinstance(entry, dict) and index.isdecimal():
            _note(found, int(index), entry.get("content"), entry.get("special"))
    return found


def _note(found: dict[int, tuple[str, bool]], index: Any, text: Any, special: Any) -> None:
    if type(index) is int and 0 <= index < LARGEST_ID and isinstance(text, str):
        found[index] = text, bool(special)


def _special_texts(files: TokenFiles) -> set[str]:
    return {text for role in _ROLES if (text := files.text_of(role))}


def set_roles(vocabulary: Vocabulary, files: TokenFiles) -> None:
    """Find the ids of the roles: by the text the tokenizer gives, else the vocabulary's own, else the config's."""
    id_of = {token: index for index, token in reversed(list(enumerate(vocabulary.tokens)))}
    for role in _ROLES:
        text = files.text_of(role)
        found = [id_of.get(text.encode(errors="replace"))] if text else []
        found += [vocabulary.special.get(role), *files.config.ids(f"{role}_token_id")]
        known = [index for index in found if index is not None and index < len(vocabulary.tokens)]
        vocabulary.special.pop(role, None)
        if known:
            vocabulary.special[role] = known[0]
    _set_ends(vocabulary, files)
    if vocabulary.model == SENTENCEPIECE and "unk" in vocabulary.special:
        vocabulary.types[vocabulary.special["unk"]] = TokenType.UNKNOWN


def _set_ends(vocabulary: Vocabulary, files: TokenFiles) -> None:
    """A model may end its answer with any of several tokens; GGUF has room for three."""
    named = [*files.generation.ids("eos_token_id"), *files.config.ids("eos_token_id")]
    ends = [index for index in dict.fromkeys(named) if index < len(vocabulary.tokens)]
    if ends:
        vocabulary.special.setdefault("eos", ends[0])
    others = [index for index in ends if index not in vocabulary.special.values()]
    for index in others:
        role = "eom" if b"eom" in vocabulary.tokens[index] else "eot"
        if role not in vocabulary.special:
            vocabulary.special[role] = index


def set_flags(vocabulary: Vocabulary, files: TokenFiles) -> None:
    """Whether a text gets a beginning, an end, and a space in front."""
    for role, last in _PLACES.items():
        flag = files.tokenizer_config.get(f"add_{role}_token")
        framing = framing_token(files.tokenizer_json, last)
        if not isinstance(flag, bool) and framing is not None:
            flag = framing != "" and framing == files.text_of(role)
        if not isinstance(flag, bool):
            default = role == "bos" and vocabulary.model == SENTENCEPIECE
            flag = vocabulary.flags.get(f"add_{role}_token", default)
        vocabulary.flags[f"add_{role}_token"] = flag
    adds_space = files.tokenizer_config.get("add_prefix_space")
    if vocabulary.model == SENTENCEPIECE and isinstance(adds_space, bool):
        vocabulary.flags["add_space_prefix"] = adds_space
