"""Results in the shape that OpenAI's API and llama-cpp-python give, for apps written against those.

https://platform.openai.com/docs/api-reference/chat and https://platform.openai.com/docs/api-reference/completions
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import EdgellamaError
from ..generation import Answer, TokenLogprob
from .conversation import ChatAnswer, Conversation
from .tool_choice import Choice

if TYPE_CHECKING:
    from ..model import Model

Completion = dict[str, Any] | Iterator[dict[str, Any]]

_SAME_NAME = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "seed", "repeat_penalty", "presence_penalty",
    "frequency_penalty", "stop", "max_tokens", "grammar",
)  # fmt: skip


def create_chat_completion(
    model: "Model", messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: Choice = "auto", response_format: Mapping[str, Any] | None = None, logprobs: bool = False,
    top_logprobs: int = 0, logit_bias: Mapping[str, float] | None = None, stream: bool = False, **options: Any,
) -> Completion:  # fmt: skip
    """A `chat.completion`, or with `stream` an iterator of `chat.completion.chunk`. Raises EdgellamaError."""
    request = _request(options, logit_bias) | _format(response_format)
    if logprobs:
        request["logprobs"] = top_logprobs
    chat = Conversation(model, messages, tools=tools if tool_choice != "none" else ())
    answer = chat.answer(tool_choice, **request)
    identity = _identity(model, "chatcmpl", "chat.completion.chunk" if stream else "chat.completion")
    if stream:
        return _chat_chunks(answer, identity)
    answer.run()
    choice = {"index": 0, "message": _message(answer), "finish_reason": _reason(answer)}
    choice["logprobs"] = {"content": [_logprob(model, entry) for entry in answer.logprobs]} if logprobs else None
    return identity | {"choices": [choice], "usage": _usage(answer)}


def create_completion(
    model: "Model", prompt: str | Sequence[int], *, echo: bool = False, logprobs: int | None = None,
    logit_bias: Mapping[str, float] | None = None, stream: bool = False, max_tokens: int | None = 16, **options: Any,
) -> Completion:  # fmt: skip
    """A `text_completion`, or with `stream` an iterator of its parts. Raises EdgellamaError."""
    request = _request({**options, "max_tokens": max_tokens}, logit_bias)
    answer = model.generate(prompt, logprobs=logprobs, **request)
    identity = _identity(model, "cmpl", "text_completion")
    start = (prompt if isinstance(prompt, str) else model.detokenize(prompt)) if echo else ""
    if stream:
        return _text_chunks(answer, identity, start)
    answer.run()
    choice = {"index": 0, "text": start + answer.text, "finish_reason": _reason(answer)}
    choice["logprobs"] = _text_logprobs(model, answer.logprobs) if logprobs is not None else None
    return identity | {"choices": [choice], "usage": _usage(answer)}


def _request(options: dict[str, Any], logit_bias: Mapping[str, float] | None) -> dict[str, Any]:
    unknown = sorted(options.keys() - set(_SAME_NAME))
    if unknown:
        raise EdgellamaError(f"unknown option {unknown[0]!r}; known are {', '.join(_SAME_NAME)}")
    request = {name: value for name, value in options.items() if value is not None or name in ("max_tokens", "seed")}
    if logit_bias:
        try:
            request["logit_bias"] = {int(token): float(bias) for token, bias in logit_bias.items()}
        except ValueError:
            raise EdgellamaError("logit_bias must map token ids to numbers") from None
    return request


def _format(response_format: Mapping[str, Any] | None) -> dict[str, Any]:
    """The structured-output option that a response_format asks for."""
    kind = (response_format or {"type": "text"}).get("type")
    if kind == "text":
        return {}
    if kind == "json_object":  # llama-cpp-python takes a schema here
        return {"json_schema": response_format.get("schema", {"type": "object"})}
    if kind == "json_schema" and isinstance(response_format.get("json_schema"), Mapping):
        return {"json_schema": response_format["json_schema"].get("schema", {})}
    raise EdgellamaError("response_format must have the type 'text', 'json_object' or 'json_schema'")


def _identity(model: "Model", prefix: str, kind: str) -> dict[str, Any]:
    name = model.config.name or model.file.path.name
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": name}


def _message(answer: ChatAnswer) -> dict[str, Any]:
    message = answer.message
    return message | {"content": message["content"] or None} if answer.tool_calls else message


def _reason(answer: Answer) -> str:
    return "stop" if answer.finish_reason == "cancelled" else answer.finish_reason


def _usage(answer: Answer) -> dict[str, int]:
    n_prompt, n_answer = answer.stats.prompt_tokens, answer.stats.generated_tokens
    return {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer}


def _chat_chunks(answer: ChatAnswer, identity: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return identity | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in answer:
        yield chunk({"content": piece})
    if answer.tool_calls:
        calls = [{"index": index} | call.as_openai() for index, call in enumerate(answer.tool_calls)]
        yield chunk({"tool_calls": calls})
    yield chunk({}, _reason(answer)) | {"usage": _usage(answer)}


def _text_chunks(answer: Answer, identity: dict[str, Any], start: str) -> Iterator[dict[str, Any]]:
    def chunk(text: str, reason: str | None = None) -> dict[str, Any]:
        return identity | {"choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}]}

    if start:
        yield chunk(start)
    for piece in answer:
        yield chunk(piece)
    yield chunk("", _reason(answer)) | {"usage": _usage(answer)}


def _token(model: "Model", token_id: int, logprob: float) -> dict[str, Any]:
    data = model.tokenizer.piece_bytes(token_id)
    return {"token": data.decode(errors="replace"), "logprob": logprob, "bytes": list(data)}


def _logprob(model: "Model", entry: TokenLogprob) -> dict[str, Any]:
    top = [_token(model, token_id, logprob) for token_id, logprob in entry.top]
    return _token(model, entry.id, entry.logprob) | {"top_logprobs": top}


def _text_logprobs(model: "Model", entries: list[TokenLogprob]) -> dict[str, list[Any]]:
    tokens = [_token(model, entry.id, entry.logprob)["token"] for entry in entries]
    tops = [{_token(model, i, value)["token"]: value for i, value in entry.top} for entry in entries]
    return {
        "tokens": tokens,
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": tops,
        "text_offset": [sum(map(len, tokens[:index])) for index in range(len(tokens))],
    }
