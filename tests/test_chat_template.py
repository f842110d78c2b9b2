"""Chat templates: what built-ins and files render, which one a model gets, messages and tools that they are given."""

import datetime
import json
from typing import Literal

import pytest
from stock_jinja import NOW, render_stock

from edgellama.chat import builtin_templates, messages, tools
from edgellama.chat.builtin_templates import BUILTIN_TEMPLATES
from edgellama.chat.errors import MessageError, TemplateError, TemplateLimitError, TemplateRaisedError, ToolError
from edgellama.chat.template import ChatTemplate, choose, starts_with_bos

SYSTEM = {"role": "system", "content": "Be nice."}
USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
AGAIN = {"role": "user", "content": "Bye"}
CHAT = [SYSTEM, USER, ANSWER, AGAIN]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "where"}},
            "required": ["city"],
        },
    },
}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'}}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": '{"celsius": 7}'}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def built_in(name: str) -> ChatTemplate:
    return choose(None, None, name, "", lambda text: False)


def from_file(source: str, **options) -> ChatTemplate:
    return ChatTemplate("the model's own", source, "file", now=NOW, **options)


# Built-ins. The formats as the models' cards and reference code give them.

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
EXPECTED = {
    "alpaca": "Be nice.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nBye\n\n### Response:\n",
    "baichuan": "Be nice.<reserved_102>Hi<reserved_103>Hello</s><reserved_102>Bye<reserved_103>",
    "baichuan2": "Be nice.<reserved_106>Hi<reserved_107>Hello<reserved_106>Bye<reserved_107>",
    "chatglm2": "[gMASK]sop[Round 1]\n\n问：Be nice.\n\nHi\n\n答：Hello\n\n[Round 2]\n\n问：Bye\n\n答：",
    "chatglm3": "[gMASK]sop<|system|>\n Be nice.<|user|>\n Hi<|assistant|>\n Hello<|user|>\n Bye<|assistant|>\n",
    "chatml": "<|im_start|>system\nBe nice.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
    "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "command-r": "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be nice.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hello<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Bye<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "deepseek": "Be nice.<｜User｜>Hi<｜Assistant｜>Hello<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜>",
    "deepseek-coder": "Be nice.\n### Instruction:\nHi\n### Response:\nHello\n<|EOT|>\n### Instruction:\nBye\n"
    "### Response:\n",
    "deepseek-llm": "Be nice.\n\nUser: Hi\n\nAssistant: Hello<｜end▁of▁sentence｜>User: Bye\n\nAssistant:",
    "falcon": "System: Be nice.\nUser: Hi\nFalcon: Hello\nUser: Bye\nFalcon:",
    "gemma": "<start_of_turn>user\nBe nice.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    "glm4": "[gMASK]<sop><|system|>\nBe nice.<|user|>\nHi<|assistant|>\nHello<|user|>\nBye<|assistant|>\n",
    "granite": "<|start_of_role|>system<|end_of_role|>Be nice.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Hi"
    "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>Hello<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    "llama2": "[INST] <<SYS>>\nBe nice.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nBe nice.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama4": "<|header_start|>system<|header_end|>\n\nBe nice.<|eot|><|header_start|>user<|header_end|>\n\nHi<|eot|>"
    "<|header_start|>assistant<|header_end|>\n\nHello<|eot|><|header_start|>user<|header_end|>\n\nBye<|eot|>"
    "<|header_start|>assistant<|header_end|>\n\n",
    "mistral": "[INST] Be nice.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]",
    "mistral-v3": "[INST] Be nice.\n\nHi[/INST] Hello</s>[INST] Bye[/INST]",
    "mistral-v7": "[SYSTEM_PROMPT]Be nice.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello</s>[INST]Bye[/INST]",
    "moss": "Be nice.\n<|Human|>: Hi<eoh>\n<|MOSS|>: Hello<eom>\n<|Human|>: Bye<eoh>\n<|MOSS|>:",
    "openbuddy": "Be nice.\n\nUser: Hi\nAssistant: Hello\n\nUser: Bye\nAssistant:",
    "openchat": "Be nice.<|end_of_turn|>GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant: Hello"
    "<|end_of_turn|>GPT4 Correct User: Bye<|end_of_turn|>GPT4 Correct Assistant:",
    "phi3": "<|system|>\nBe nice.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nBye<|end|>\n"
    "<|assistant|>\n",
    "phi4": "<|im_start|>system<|im_sep|>Be nice.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>"
    "<|im_start|>assistant<|im_sep|>Hello<|im_end|><|im_start|>user<|im_sep|>Bye<|im_end|>"
    "<|im_start|>assistant<|im_sep|>",
    "plain": "Be nice.\n\nHiHelloBye",
    "vicuna": "Be nice. USER: Hi ASSISTANT: Hello</s>USER: Bye ASSISTANT:",
    "zephyr": "<|system|>\nBe nice.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello</s>\n<|user|>\nBye</s>\n"
    "<|assistant|>\n",
}
EXPECTED["hermes"] = EXPECTED["chatml"]
EXPECTED["llama3.1"] = EXPECTED["llama3"].replace(
    "Be nice.", "Cutting Knowledge Date: December 2023\nToday Date: 04 Mar 2025\n\nBe nice."
)


@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
def test_built_in_formats(name):
    template = built_in(name)
    template.now = NOW
    assert template.render(CHAT, **TOKENS) == EXPECTED[name]
    assert template.origin == "built-in" and template.name == name
    assert template.stop_strings == BUILTIN_TEMPLATES[name].stop_strings


@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
def test_later_prompts_begin_with_earlier_ones(name):
    """So that the cache is used: a prompt, then the same with the answer and the next question."""
    template = built_in(name)
    for start in ([USER], [SYSTEM, USER]):
        first = template.render(start, **TOKENS)
        assert template.render([*start, ANSWER, AGAIN], **TOKENS).startswith(first)


def test_default_system_messages():
    assert built_in("vicuna").render([USER]) == f"{VICUNA_SYSTEM}USER: Hi ASSISTANT:"
    assert built_in("alpaca").render([USER]).startswith("Below is an instruction that describes a task.")
    assert built_in("moss").render([USER]).startswith("You are an AI assistant whose name is MOSS.\n<|Human|>: Hi")


def test_no_generation_prompt():
    assert built_in("chatml").render([USER], add_generation_prompt=False) == "<|im_start|>user\nHi<|im_end|>\n"
    assert built_in("llama3.1").render([USER, ANSWER], add_generation_prompt=False).endswith("Hello<|eot_id|>")


@pytest.mark.parametrize("name", ["llama3.1", "hermes", "mistral-v3"])
def test_built_ins_with_tools(name):
    template = built_in(name)
    assert template.takes_tools
    text = template.render([SYSTEM, USER, ASKED, RESULT], [WEATHER], **TOKENS)
    for part in ("Be nice.", '"get_weather"', "The weather in a city", '{"city": "Zürich"}', "celsius"):
        assert part in text, part
    assert "None" not in text


def test_llama_31_tools_in_full():
    """As https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/ shows user-defined tools."""
    template = built_in("llama3.1")
    text = template.render([USER, ASKED, RESULT], [WEATHER], date_string="26 Jul 2024")
    head, _, turns = text.partition("<|start_header_id|>user<|end_header_id|>\n\n")
    assert head == (
        "<|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n<|eot_id|>"
    )
    assert turns.startswith("Given the following functions, please respond with a JSON for a function call ")
    assert json.dumps(WEATHER, indent=4) + "\n\nHi<|eot_id|>" in turns
    assert turns.endswith(
        '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "get_weather", "parameters": {"city": "Zürich"}}'
        '<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n"{\\"celsius\\": 7}"<|eot_id|>'
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_hermes_tools_in_full():
    """As https://huggingface.co/Qwen/Qwen2.5-7B-Instruct and NousResearch/Hermes-2-Pro show calls and results."""
    text = built_in("hermes").render([USER, ASKED, RESULT, RESULT], [WEATHER])
    assert text.startswith("<|im_start|>system\n# Tools\n\nYou may call one or more functions")
    assert f"<tools>\n{json.dumps(WEATHER)}\n</tools>" in text
    response = '\n<tool_response>\n{"celsius": 7}\n</tool_response>'
    assert text.endswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call><|im_end|>\n'
        f"<|im_start|>user{response}{response}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_table_of_built_ins():
    assert len(builtin_templates.table()) == len(BUILTIN_TEMPLATES)
    assert ("vicuna", BUILTIN_TEMPLATES["vicuna"].used_by) in builtin_templates.table()


# Templates from files, rendered as transformers renders them

QWEN3_STYLE = """
{%- set ns = namespace(last=messages|length - 1, multi=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user"
            and not (message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.multi = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- set thought = '<think>' ~ thought ~ '</think>' if loop.index0 > ns.last else '' %}
        {{- '<|im_start|>assistant\\n' + thought + content }}
        {%- for tool_call in message.tool_calls or [] %}
            {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\\n<tool_call>' ~ tool_call.name }}{{ tool_call.arguments | tojson }}{{ '</tool_call>' }}
        {%- endfor %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
"""
HARMONY_STYLE = """
{%- macro type_of(spec, required, nullable=false) -%}
    {%- if spec.type == "array" -%}
        {{- type_of(spec['items'], required) + "[]" if spec['items'] else "any[]" }}
    {%- elif spec.type is defined and spec.type is iterable and spec.type is not string and spec.type is not mapping -%}
        {{- spec.type | join(" | ") }}
    {%- elif spec.type == "object" and spec.properties -%}
        {{- "{\\n" }}
        {%- for name, inner in spec.properties.items() -%}
            {{ name }}{{ "?" if name not in (spec.required or []) }}: {{ type_of(inner, spec.required or []) }}
            {%- if not loop.last -%}, {% endif -%}
        {%- endfor -%}
        {{- "}" }}
    {%- else -%}
        {{- {"string": "string", "integer": "number", "number": "number"}[spec.type] | default("any") }}
    {%- endif -%}
{%- endmacro -%}
{{- "<|start|>system<|message|>Current date: " + strftime_now("%Y-%m-%d") + "<|end|>" }}
{%- if tools %}
    {{- "<|start|>developer<|message|>namespace functions {\\n\\n" }}
    {%- for tool in tools %}
        {%- set tool = tool.function %}
        {{- "// " + tool.description + "\\ntype " + tool.name + " = (_: " }}
        {{- type_of(tool.parameters, []) + ") => any;\\n" }}
    {%- endfor %}
    {{- "}<|end|>" }}
{%- endif %}
{%- set last_call = namespace(name=none) %}
{%- for message in messages %}
    {%- if message.role == "assistant" and "tool_calls" in message %}
        {%- set later = namespace(found=false) %}
        {%- for other in messages[loop.index:] %}
            {%- if other.role == 'assistant' and "tool_calls" not in other %}{%- set later.found = true %}{%- endif %}
        {%- endfor %}
        {%- set call = message.tool_calls[0].function %}
        {{- "<|start|>assistant to=functions." + call.name + "<|message|>" + call.arguments | tojson + "<|call|>" }}
        {%- set last_call.name = call.name %}
    {%- elif message.role == "tool" %}
        {%- if last_call.name is none %}{{- raise_exception("a result without a call") }}{%- endif %}
        {{- "<|start|>functions." + last_call.name + " to=assistant<|message|>" }}
        {{- message.content | tojson + "<|end|>" }}
    {%- else %}
        {{- "<|start|>" + message.role + "<|message|>" + message.content + "<|end|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}
"""
HERMES_STYLE = """{%- macro python_type(spec) %}
{%- set names = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} %}
{%- if names[spec.type] is defined %}{{- names[spec.type] }}
{%- elif spec.type == "array" %}{{- "list[" + python_type(spec['items']) + "]" }}
{%- elif spec.type == "object" %}{{- "dict[str, " + python_type(spec.additionalProperties) + ']' }}
{%- elif spec.type is iterable %}{{- "Union[" }}{%- for t in spec.type %}{{- python_type({"type": t}) }}
{%- if not loop.last %}{{- "," }}{%- endif %}{%- endfor %}{{- "]" }}
{%- else %}{{- "Any" }}{%- endif %}{%- endmacro %}
{%- for tool in tools or [] %}
{%- set f = tool.function %}
{{- '{"type": "function", "function": ' }}{{- '{"name": ' + (f.name|tojson) + ', ' }}
{%- for name, spec in f.parameters.properties|items %}{{- name + ": " + python_type(spec) }}
{%- if not loop.last %}{{- ", " }}{%- endif %}{%- endfor %}
{{- '"parameters": ' }}{{- f.parameters|tojson(indent=2)|indent(4) }}{{- "}}" }}
{%- endfor %}
{%- for message in messages %}{{ '<' ~ message.role ~ '>' ~ (message.content or '')|string|trim }}
{%- for call in message.tool_calls|default([]) %}{{ call.function|tojson }}{% endfor %}{%- endfor %}
"""
STYLES = {"qwen3": QWEN3_STYLE, "harmony": HARMONY_STYLE, "hermes": HERMES_STYLE}
CONVERSATIONS = {
    "question": [USER],
    "chat": CHAT,
    "thought": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSo."}, AGAIN],
    "unfinished": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSo."}],
    "call": [USER, ASKED, RESULT],
    "calls": [SYSTEM, USER, ASKED, RESULT, ANSWER, AGAIN, ASKED, RESULT],
    "unicode": [{"role": "user", "content": ' <&> "ü" \n\t日本 \U0001f600 '}],
}
BIG_TOOL = {
    "type": "function",
    "function": {
        "name": "book",
        "description": "Books «things»",
        "parameters": {
            "type": "object",
            "properties": {
                "when": {"type": ["string", "integer"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "options": {"type": "object", "additionalProperties": {"type": "number"}},
            },
        },
    },
}


def parsed(conversation: list[dict]) -> list[dict]:
    """Arguments as the dicts that templates are written for."""
    return messages.for_template(messages.validate(conversation))


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("style", STYLES)
def test_styles_of_the_wild(style, conversation):
    chat, template = CONVERSATIONS[conversation], from_file(STYLES[style])
    assert template.takes_tools == (style != "qwen3")
    for tool_list in (None, [WEATHER, BIG_TOOL]):
        if not template.takes_tools and (tool_list or ASKED in chat):
            continue  # they would be written as text
        for variables in ({}, {"enable_thinking": False}):
            known = {"messages": parsed(chat), "tools": tool_list, "add_generation_prompt": True, **TOKENS, **variables}
            expected = render_stock(template.source, known)
            assert template.render(chat, tool_list, **TOKENS, **variables) == expected


@pytest.mark.parametrize("name", ["llama3", "mistral", "qwen2"])
def test_real_templates(shared_data, name):
    config = json.loads((shared_data / "tokenizers" / name / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = from_file(config["chat_template"])
    for conversation in CONVERSATIONS.values():
        for tool_list in (None, [WEATHER, BIG_TOOL]):
            if (tool_list and not template.takes_tools) or ("tool_calls" in str(conversation) and not tool_list):
                continue
            known = {"messages": parsed(conversation), "tools": tool_list, "add_generation_prompt": True, **TOKENS}
            try:
                expected = render_stock(template.source, known)
            except Exception:
                continue  # the template does not take the system role
            assert template.render(conversation, tool_list, **TOKENS) == expected


@pytest.mark.parametrize("name", ["phi-3", "qwen2"])
def test_templates_in_vocabulary_files(shared_data, name):
    from edgellama.gguf import open_gguf

    with open_gguf(shared_data / "vocab" / f"ggml-vocab-{name}.gguf") as file:
        source = file.get("tokenizer.chat_template", str)
    template = from_file(source)
    known = {"messages": [USER, ANSWER, AGAIN], "tools": None, "add_generation_prompt": True, **TOKENS}
    assert template.render([USER, ANSWER, AGAIN], **TOKENS) == render_stock(source, known)
    assert "Be nice." in template.render(CHAT, **TOKENS), "Phi-3's template leaves system messages out"


# What a template does not take

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
ROLES = "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}"


def test_system_message_of_a_template_that_raises():
    template = from_file(NO_SYSTEM + ROLES)
    assert template.render(CHAT) == "<user>Be nice.\n\nHi<assistant>Hello<user>Bye"
    assert template.render([SYSTEM]) == "<user>Be nice."


def test_system_message_of_a_template_that_drops_it():
    template = from_file(
        "{% for m in messages if m.role != 'system' %}{{ '<' + m.role + '>' + m.content }}{% endfor %}"
    )
    assert template.render(CHAT) == "<user>Be nice.\n\nHi<assistant>Hello<user>Bye"


def test_what_a_template_raises_is_told():
    template = from_file("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(TemplateRaisedError, match="does not take these messages: Roles must alternate"):
        template.render([USER])
    with pytest.raises(TemplateRaisedError, match="Roles must alternate"):
        template.render(CHAT)


def test_limits_are_no_lack_of_support():
    template = from_file("{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}")
    with pytest.raises(TemplateLimitError):
        template.render(CHAT)
    with pytest.raises(TemplateLimitError):
        _ = template.takes_tools


def test_tools_of_a_template_that_shows_none():
    template = from_file(ROLES)
    assert not template.takes_tools
    text = template.render([SYSTEM, USER, ASKED, RESULT], [WEATHER])
    assert text.startswith("<system>Be nice.\n\nYou can call functions.")
    assert json.dumps(WEATHER) in text
    assert text.endswith(
        '<user>Hi<assistant><tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
        '<user><tool_response>\n{"celsius": 7}\n</tool_response>'
    )
    no_system = from_file(NO_SYSTEM + ROLES).render([USER], [WEATHER])
    assert no_system.startswith("<user>You can call functions.") and no_system.endswith("\n\nHi")


TAKES = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ("{{ c.function.arguments | tojson }}", '{"city": "Zürich"}'),
        ("{{ '```' + c.function.arguments + '```' }}", '```{"city": "Zürich"}```'),  # as DeepSeek R1
        ("{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}", '{"city":'),
        ("{{ c.function.arguments }}", '{"city": "Zürich"}'),  # a dict would be spelled as Python does
        ("{% for k, v in c.function.arguments | items %}{{ k }}=<|{{ v }}|>{% endfor %}", "city=<|Zürich|>"),
        ("", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'),
    ],
)
def test_forms_of_calls(calls, expected):
    source = TAKES + "{% for m in messages %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
    template = from_file(source + calls + "{% endfor %}{% endfor %}")
    assert template.takes_tools
    assert expected in template.render([USER, ASKED, RESULT], [WEATHER])


def test_no_content_where_a_template_wants_a_text():
    source = (
        TAKES + "{% for m in messages %}{{ m.content + (m.tool_calls[0].function | tojson if m.tool_calls else '') }}"
    )
    text = from_file(source + "{% endfor %}").render([USER, ASKED], [WEATHER])
    assert text.endswith('Hi{"name": "get_weather", "arguments": {"city": "Zürich"}}')


def test_tool_source_is_used_with_tools():
    template = from_file(ROLES, tool_source="with tools: " + TAKES)
    assert template.render([USER]) == "<user>Hi"
    assert template.render([USER], [WEATHER]).startswith("with tools: {")


def test_time_stays_the_same():
    template = ChatTemplate("dated", "{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}", "file")
    first = template.render([USER])
    assert template.render([USER]) == first
    assert first == template.now.strftime("%Y-%m-%d %H:%M:%S.%f")
    assert abs(template.now - datetime.datetime.now()) < datetime.timedelta(minutes=10)


# Which template


@pytest.mark.parametrize(
    ("tokens", "architecture", "name"),
    [
        (["<|im_start|>"], "qwen2", "chatml"),
        (["<|im_start|>", "<|im_sep|>"], "phi3", "phi4"),
        (["<|start_header_id|>"], "llama", "llama3"),
        (["<|start_header_id|>", "<|python_tag|>"], "llama", "llama3.1"),
        (["<start_of_turn>"], "gemma2", "gemma"),
        (["[INST]", "[AVAILABLE_TOOLS]"], "llama", "mistral-v3"),
        (["[gMASK]", "sop"], "chatglm", "chatglm2"),
        (["[gMASK]", "sop", "<|user|>"], "chatglm", "chatglm3"),
        (["[gMASK]", "<sop>", "<|user|>"], "chatglm", "glm4"),
        (["<reserved_106>"], "baichuan", "baichuan2"),
    ],
)
def test_guesses(tokens, architecture, name):
    template = choose(None, None, None, architecture, lambda text: text in tokens)
    assert (template.name, template.origin) == (name, "guessed")


def test_nothing_to_guess_from():
    template = choose(None, None, None, "llama", lambda text: text == "<reserved_106>")
    assert (template.name, template.origin) == ("plain", "none")


def test_the_models_own():
    has_all = lambda text: True  # noqa: E731
    template = choose("own", None, None, "llama", has_all)
    assert (template.origin, template.render([USER])) == ("file", "own")
    assert choose("own", "own for tools", None, "llama", has_all).tool_source == "own for tools"
    assert choose("own", None, "zephyr", "llama", has_all).origin == "built-in"


def test_a_jinja_file(tmp_path):
    path = tmp_path / "my.jinja"
    path.write_text("{{ messages[0].content }} ü", encoding="utf-8")
    template = choose("own", None, str(path), "llama", lambda text: True)
    assert (template.origin, template.render([USER])) == ("file", "Hi ü")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TemplateError, match=r"my\.jinja: the chat template cannot be read"):
        choose(None, None, str(path), "llama", lambda text: True)


@pytest.mark.parametrize("name", ["lama3", "", "no/such/file", "a\0b", "x" * 5000])
def test_unknown_names_are_answered_with_the_known_ones(name):
    with pytest.raises(TemplateError, match=r"there is no chat template .*chatml.*llama3\.1.*zephyr") as caught:
        built_in(name)
    assert len(str(caught.value)) < 1000


def test_bos_at_the_beginning():
    assert starts_with_bos("<s>[INST]", "<s>")
    assert not starts_with_bos("[INST]<s>", "<s>")
    assert not starts_with_bos("text", None) and not starts_with_bos("text", "")


# Messages


def test_messages_are_made_plain():
    given = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "Hi", "name": "Ada", "refusal": None},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": "ü"}}}], "annotations": []},
        {"role": "tool", "content": "1", "tool_call_id": "id"},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
    ]
    plain = messages.validate(given)
    assert plain == [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": "Hi", "name": "Ada"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"x": "ü"}'}}],
        },
        {"role": "tool", "content": "1", "tool_call_id": "id"},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
    ]
    assert messages.validate(plain) == plain
    assert messages.validate([]) == []


def one_call(**function) -> dict:
    return {"role": "assistant", "tool_calls": [{"function": function}]}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("Hi", "messages must be a list of dicts with role and content, and is a str"),
        ({"role": "user"}, "messages must be a list"),
        (["Hi"], "message 0 must be a dict"),
        ([USER, {"content": "x"}], "message 1 must have a role of .*, and has None"),
        ([{"role": "robot", "content": "x"}], "message 0 must have a role of system, developer, .*'robot'"),
        ([{"role": ["user"], "content": "x"}], "message 0 must have a role"),
        ([{"role": "user"}], r"message 0 \(user\) must have a text as content, and has None"),
        ([{"role": "assistant", "content": None}], "message 0 .* must have a text as content"),
        ([{"role": "user", "content": 5}], "must have a text as content, and has 5"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "may have parts of the type 'text' only"),
        ([{"role": "user", "content": ["x"]}], "may have parts of the type 'text' only"),
        ([{"role": "user", "content": "x", "audio": {"a": 1}}], "message 0 has 'audio', which is not supported"),
        ([{"role": "user", "content": "x", "name": 5}], "'name' of message 0 must be a text"),
        ([{"role": "user", "content": "x", "tool_calls": [CALL]}], "only an assistant's message may have"),
        ([{"role": "assistant", "tool_calls": CALL}], "tool_calls of message 0 must be a list"),
        ([{"role": "assistant", "tool_calls": [5]}], "tool call 0 of message 0 must have a function with a name"),
        ([one_call(arguments="{}")], "must have a function with a name"),
        ([one_call(name="f", arguments="{x}")], "the arguments of tool call 0 of message 0 are no JSON"),
        ([one_call(name="f", arguments="[1]")], "must be a JSON object"),
        ([one_call(name="f", arguments={"x": object()})], "cannot be written as JSON"),
    ],
)
def test_messages_that_make_no_sense(given, sentence):
    with pytest.raises(MessageError, match=sentence) as caught:
        messages.validate(given)
    assert "\n" not in str(caught.value)


# Tools


def test_tools_are_completed():
    (tool,) = tools.validate([{"type": "function", "function": {"name": "f"}}])
    assert tool["function"] == {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}
    assert tools.validate([tool, WEATHER]) == [tool, WEATHER]
    assert list(WEATHER["function"]) == list(tools.validate([WEATHER])[0]["function"])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (WEATHER, "tools must be a list"),
        ([5], "tool 0 must be"),
        ([{"type": "function"}], "tool 0 must be"),
        ([{"function": {"name": "f"}}], "tool 0 must be"),
        ([{"type": "function", "function": {"name": "two words"}}], "tool 0 must have a name of 1 to 64 letters"),
        ([{"type": "function", "function": {"name": "x" * 65}}], "tool 0 must have a name"),
        ([{"type": "function", "function": {"name": "f", "description": 5}}], "description of the tool 'f'"),
        ([{"type": "function", "function": {"name": "f", "parameters": []}}], "parameters of the tool 'f'"),
        ([{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}], "of the type 'object'"),
        ([WEATHER, WEATHER], "two tools have the name 'get_weather'"),
        ([{"type": "function", "function": {"name": "f", "x": object()}}], "tool 0 is no JSON value"),
    ],
)
def test_tools_that_make_no_sense(given, sentence):
    with pytest.raises(ToolError, match=sentence):
        tools.validate(given)


def forecast(
    city: str,
    days: int = 1,
    unit: Literal["C", "F"] = "C",
    near: list[float] | None = None,
    extra: dict[str, bool] | None = None,
) -> str:
    """The weather of the coming days.

    In words.

    Args:
        city: where it is
        days (int): how many
    """
    return ""


def test_describing_a_function():
    assert tools.describe_function(forecast) == {
        "type": "function",
        "function": {
            "name": "forecast",
            "description": "The weather of the coming days.\n\nIn words.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "where it is"},
                    "days": {"type": "integer", "description": "how many"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                    "near": {"type": "array", "items": {"type": "number"}},
                    "extra": {"type": "object", "additionalProperties": {"type": "boolean"}},
                },
                "required": ["city"],
            },
        },
    }


def test_functions_that_cannot_be_described():
    def any_number(*values: int) -> None: ...
    def of_bytes(data: bytes) -> None: ...
    def of_nothing_known(data: "Missing") -> None: ...  # noqa: F821

    with pytest.raises(ToolError, match=r"'any_number' cannot be described: \*values: int cannot be passed by name"):
        tools.describe_function(any_number)
    with pytest.raises(ToolError, match="parameter 'data' of 'of_bytes' has the type <class 'bytes'>"):
        tools.describe_function(of_bytes)
    with pytest.raises(ToolError, match="'of_nothing_known' cannot be described"):
        tools.describe_function(of_nothing_known)
    with pytest.raises(ToolError, match="tool 0 must have a name"):
        tools.describe_function(lambda: None)


def test_nothing_imports_jinja_before_the_first_prompt(run_python):
    code = "import sys, edgellama.chat.template, edgellama.chat.tool_calls; print('jinja2' in sys.modules)"
    assert run_python("-c", code).stdout.strip() == "False"
