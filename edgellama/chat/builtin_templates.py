"""Chat templates by name, for files without one: each family's documented prompt format as Jinja.

Most formats put the same texts around every message of a role, and are one row of `_FRAMES`; the others are written out
in template_sources.py. None begins with BOS: the tokenizer adds it as the file says. Sources are the models' cards and
reference code, and llama.cpp's src/llama-chat.cpp, whose names are used where there are any.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from .template_sources import CHATGLM2, HERMES, LLAMA2, LLAMA31, MISTRAL, MISTRAL_TOOLS


@dataclass(frozen=True)
class BuiltinTemplate:
    """`source` is Jinja; `used_by` names models; `stop_strings` end an answer that no token ends."""

    name: str
    used_by: str
    source: str
    stop_strings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Frame:
    """Before and after a message, by role. `start` comes first, `default_system` if the chat has no system message.

    An answer begins without the space that ends its frame: that space is part of the first token of the text.
    """

    used_by: str
    roles: Mapping[str, tuple[str, str]]
    stop_strings: tuple[str, ...] = ()
    start: str = ""
    default_system: str | None = None
    strips: bool = False


def _roles(pattern: str, *names: str, **renamed: str) -> dict[str, tuple[str, str]]:
    """The same frame for the roles (named as in the template), with ROLE standing for the name."""
    frames = {name: name for name in names} | renamed
    return {role: tuple(pattern.replace("ROLE", name).split("CONTENT")) for role, name in frames.items()}


_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_ALPACA_SYSTEM = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
_ALL = ("system", "user", "assistant")

_FRAMES: dict[str, _Frame] = {
    "llama3": _Frame(
        "Llama 3", _roles("<|start_header_id|>ROLE<|end_header_id|>\n\nCONTENT<|eot_id|>", *_ALL), strips=True
    ),
    "llama4": _Frame("Llama 4", _roles("<|header_start|>ROLE<|header_end|>\n\nCONTENT<|eot|>", *_ALL), strips=True),
    "vicuna": _Frame(
        "Vicuna 1.1 and 1.5, WizardLM",
        {"system": ("", " "), "user": ("USER: ", " "), "assistant": ("ASSISTANT: ", "</s>")},
        ("USER:",), default_system=_VICUNA_SYSTEM,
    ),
    "alpaca": _Frame(
        "Stanford Alpaca and models trained on its data",
        {
            "system": ("", "\n\n"),
            "user": ("### Instruction:\n", "\n\n"),
            "assistant": ("### Response:\n", "\n\n"),
        },
        ("### Instruction:",), default_system=_ALPACA_SYSTEM,
    ),
    "chatml": _Frame(
        "Qwen 1.5 to 2.5, Yi, OpenHermes, SmolLM", _roles("<|im_start|>ROLE\nCONTENT<|im_end|>\n", *_ALL),
        ("<|im_end|>",),
    ),
    "mistral-v7": _Frame(
        "Mistral Small 3, Mistral Large 2411",
        {
            "system": ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
            "user": ("[INST]", "[/INST]"),
            "assistant": ("", "</s>"),
        },
    ),
    "zephyr": _Frame("Zephyr, TinyLlama Chat", _roles("<|ROLE|>\nCONTENT</s>\n", *_ALL), ("<|user|>",)),
    "gemma": _Frame(
        "Gemma 1 to 3", _roles("<start_of_turn>ROLE\nCONTENT<end_of_turn>\n", "user", assistant="model"),
        ("<end_of_turn>",), strips=True,
    ),
    "phi3": _Frame("Phi-3, Phi-3.5, Phi-4-mini", _roles("<|ROLE|>\nCONTENT<|end|>\n", *_ALL), ("<|end|>",)),
    "phi4": _Frame("Phi-4", _roles("<|im_start|>ROLE<|im_sep|>CONTENT<|im_end|>", *_ALL), ("<|im_end|>",)),
    "chatglm3": _Frame("ChatGLM3", _roles("<|ROLE|>\n CONTENT", *_ALL), ("<|user|>",), start="[gMASK]sop"),
    "glm4": _Frame("GLM-4", _roles("<|ROLE|>\nCONTENT", *_ALL), ("<|user|>",), start="[gMASK]<sop>"),
    "baichuan": _Frame(
        "Baichuan 13B Chat",
        {"system": ("", ""), "user": ("<reserved_102>", ""), "assistant": ("<reserved_103>", "</s>")},
        ("<reserved_102>",),
    ),
    "baichuan2": _Frame(
        "Baichuan 2 Chat",
        {"system": ("", ""), "user": ("<reserved_106>", ""), "assistant": ("<reserved_107>", "")},
        ("<reserved_106>",),
    ),
    "moss": _Frame(
        "MOSS-moon SFT",
        {"system": ("", "\n"), "user": ("<|Human|>: ", "<eoh>\n"), "assistant": ("<|MOSS|>: ", "<eom>\n")},
        ("<eom>",), default_system="You are an AI assistant whose name is MOSS.",
    ),
    "openbuddy": _Frame(
        "OpenBuddy",
        {"system": ("", "\n\n"), "user": ("User: ", "\n"), "assistant": ("Assistant: ", "\n\n")},
        ("User:",), default_system="You are Buddy, a helpful AI assistant by the OpenBuddy team. You talk to a user.",
    ),
    "openchat": _Frame(
        "OpenChat 3.5, Starling",
        {
            "system": ("", "<|end_of_turn|>"),
            "user": ("GPT4 Correct User: ", "<|end_of_turn|>"),
            "assistant": ("GPT4 Correct Assistant: ", "<|end_of_turn|>"),
        },
        ("<|end_of_turn|>",),
    ),
    "deepseek-coder": _Frame(
        "DeepSeek Coder 1",
        {
            "system": ("", "\n"),
            "user": ("### Instruction:\n", "\n"),
            "assistant": ("### Response:\n", "\n<|EOT|>\n"),
        },
        ("### Instruction:", "<|EOT|>"),
    ),
    "deepseek-llm": _Frame(
        "DeepSeek LLM, DeepSeek V2",
        {"system": ("", "\n\n"), "user": ("User: ", "\n\n"), "assistant": ("Assistant: ", "<｜end▁of▁sentence｜>")},
        ("User:",),
    ),
    "deepseek": _Frame(
        "DeepSeek V3, DeepSeek R1 and its distillations",
        {"system": ("", ""), "user": ("<｜User｜>", ""), "assistant": ("<｜Assistant｜>", "<｜end▁of▁sentence｜>")},
        ("<｜User｜>",),
    ),
    "command-r": _Frame(
        "Command R, Aya",
        _roles(
            "<|START_OF_TURN_TOKEN|><|ROLE_TOKEN|>CONTENT<|END_OF_TURN_TOKEN|>",
            system="SYSTEM", user="USER", assistant="CHATBOT",
        ),
        ("<|END_OF_TURN_TOKEN|>",), strips=True,
    ),
    "granite": _Frame(
        "Granite 3", _roles("<|start_of_role|>ROLE<|end_of_role|>CONTENT<|end_of_text|>\n", *_ALL),
        ("<|start_of_role|>",),
    ),
    "falcon": _Frame(
        "Falcon 180B Chat",
        {"system": ("System: ", "\n"), "user": ("User: ", "\n"), "assistant": ("Falcon: ", "\n")},
        ("User:",),
    ),
    "plain": _Frame(
        "base models: only the text, no roles",
        {"system": ("", "\n\n"), "user": ("", ""), "assistant": ("", "")},
    ),
}  # fmt: skip


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _framed(frame: _Frame) -> str:
    """The Jinja source for a frame."""
    parts = [frame.start]
    if frame.default_system is not None:
        before, after = frame.roles["system"]
        parts.append("{% if not messages or messages[0].role != 'system' %}")
        parts.append(f"{{{{ {_text(before + frame.default_system + after)} }}}}{{% endif %}}")
    parts.append("{% for message in messages %}")
    for index, (role, (before, after)) in enumerate(frame.roles.items()):
        parts.append(f"{{% {'elif' if index else 'if'} message.role == {_text(role)} %}}")
        content = "message.content | trim" if frame.strips or before.endswith(" ") else "message.content"
        parts.append(f"{{{{ {_text(before)} + {content} + {_text(after)} }}}}")
    parts.append(
        "{% else %}{{ raise_exception('it has no place for the role ' + message.role) }}{% endif %}{% endfor %}"
    )
    answer = frame.roles["assistant"][0].rstrip(" ")
    parts.append(f"{{% if add_generation_prompt %}}{{{{ {_text(answer)} }}}}{{% endif %}}")
    return "".join(parts)


_WRITTEN_OUT = [
    BuiltinTemplate("llama2", "Llama 2 Chat, Code Llama Instruct", LLAMA2, ("[INST]",)),
    BuiltinTemplate("llama3.1", "Llama 3.1 to 3.3, with tools", LLAMA31),
    BuiltinTemplate("mistral", "Mistral 7B Instruct 0.1 and 0.2, Mixtral", MISTRAL, ("[INST]",)),
    BuiltinTemplate("mistral-v3", "Mistral 7B Instruct 0.3, with tools", MISTRAL_TOOLS, ("[INST]",)),
    BuiltinTemplate("hermes", "Hermes 2 Pro, Hermes 3, Qwen 2.5, with tools", HERMES, ("<|im_end|>",)),
    BuiltinTemplate("chatglm2", "ChatGLM2", CHATGLM2, ("[Round ", "问：")),
]

BUILTIN_TEMPLATES: dict[str, BuiltinTemplate] = {template.name: template for template in _WRITTEN_OUT} | {
    name: BuiltinTemplate(name, frame.used_by, _framed(frame), frame.stop_strings) for name, frame in _FRAMES.items()
}


def table() -> list[tuple[str, str]]:
    """Names and the models that use them, for documents."""
    return sorted((template.name, template.used_by) for template in BUILTIN_TEMPLATES.values())
