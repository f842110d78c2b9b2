"""From messages to token ids: which template a model gets, and encoding what it renders."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .template import ChatTemplate, choose

if TYPE_CHECKING:
    from ..model import Model
    from ..tokenizer import Tokenizer

_KEY = "tokenizer.chat_template"


def template_for(model: "Model", requested: str | None, with_tools: bool) -> ChatTemplate:
    """The template that was asked for, else the file's own, else one that its vocabulary suggests.

    Raises EdgellamaError for a name that no built-in has and a file that cannot be read.
    """
    own = model.file.get(_KEY, str, None)
    for_tools = model.file.get(f"{_KEY}.tool_use", str, None) if with_tools else None
    vocabulary = model.tokenizer.vocabulary
    return choose(own, for_tools, requested, model.config.architecture, lambda text: text.encode() in vocabulary.id_of)


def encode(
    template: ChatTemplate, messages: Sequence[dict[str, Any]], tokenizer: "Tokenizer", tools: Sequence[dict[str, Any]]
) -> list[int]:
    """The ids of a conversation and of the beginning of the answer, once with the BOS token or whatever comes first.

    The template's control tokens become their ids; the same texts in what users and functions say stay text.
    """
    special = {"bos_token": _text(tokenizer, tokenizer.bos_id), "eos_token": _text(tokenizer, tokenizer.eos_id)}
    protected = [_protected(message, tokenizer) for message in messages]
    text = template.render(protected, tools or None, add_generation_prompt=True, **special)
    ids = tokenizer.encode(text, add_special=False, parse_special=True)
    prefix = list(tokenizer.prefix_ids)
    return ids if ids[: len(prefix)] == prefix else prefix + ids


def _text(tokenizer: "Tokenizer", token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.piece_bytes(token_id).decode(errors="replace")


def _protected(message: dict[str, Any], tokenizer: "Tokenizer") -> dict[str, Any]:
    content = message.get("content")
    is_foreign = message["role"] in ("user", "tool") and isinstance(content, str)
    return message | {"content": tokenizer.protect(content)} if is_foreign else message
