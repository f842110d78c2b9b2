"""Chat templates that are more than a frame around each message, as Jinja.

Texts that tell a model how to call functions are those that the families were trained with, as their cards give them.
"""

LLAMA2 = """
{%- set ns = namespace(system='') %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first %}
        {%- set ns.system = '<<SYS>>\\n' + message.content | trim + '\\n<</SYS>>\\n\\n' %}
    {%- elif message.role == 'user' %}
        {{- (bos_token if ns.answered else '') + '[INST] ' + ns.system + message.content | trim + ' [/INST]' }}
        {%- set ns.system = '' %}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + ' ' + (eos_token or '</s>') }}
        {%- set ns.answered = true %}
    {%- else %}
        {{- raise_exception('it has no place for the role ' + message.role + ' here') }}
    {%- endif %}
{%- endfor %}"""

MISTRAL = """
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + message.content + ' [/INST]' }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + (eos_token or '</s>') }}
    {%- else %}
        {{- raise_exception('it has no place for the role ' + message.role) }}
    {%- endif %}
{%- endfor %}"""

MISTRAL_TOOLS = """
{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools and message == users[-1] %}
            {{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {{- '{"name": ' + call.function.name | tojson + ', "arguments": ' + call.function.arguments | tojson }}
            {{- ', "id": ' + call.id | default('') | tojson + '}' + (']' if loop.last else ', ') }}
        {%- endfor %}
        {{- eos_token or '</s>' }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + (eos_token or '</s>') }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | tojson }}
        {{- ', "call_id": ' + message.tool_call_id | default('') | tojson + '}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('it has no place for the role ' + message.role) }}
    {%- endif %}
{%- endfor %}"""

LLAMA31 = """
{%- macro turn(role, content, end='<|eot_id|>') %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + content + end }}
{%- endmacro %}
{%- macro system_text(content) %}
    {{- 'Environment: ipython\\n' if tools else '' }}
    {{- 'Cutting Knowledge Date: December 2023\\nToday Date: ' + (date_string or strftime_now('%d %b %Y')) + '\\n\\n' }}
    {{- content | trim }}
{%- endmacro %}
{%- macro with_tools(content) %}
    {{- 'Given the following functions, please respond with a JSON for a function call with its proper arguments ' }}
    {{- 'that best answers the given prompt.\\n\\nRespond in the format {"name": function name, "parameters": ' }}
    {{- 'dictionary of argument name and its value}. Do not use variables.\\n\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) + '\\n\\n' }}
    {%- endfor %}
    {{- content }}
{%- endmacro %}
{%- set ns = namespace(tools_shown=not tools) %}
{%- if not messages or messages[0].role != 'system' %}
    {{- turn('system', system_text('')) }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first %}
        {{- turn('system', system_text(message.content)) }}
    {%- elif message.role == 'user' and not ns.tools_shown %}
        {{- turn('user', with_tools(message.content | trim)) }}
        {%- set ns.tools_shown = true %}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {%- for call in message.tool_calls %}
            {%- set text = '{"name": ' + call.function.name | tojson + ', "parameters": ' %}
            {{- turn('assistant', text + call.function.arguments | tojson + '}') }}
        {%- endfor %}
    {%- elif message.role == 'tool' %}
        {{- turn('ipython', message.content | tojson) }}
    {%- else %}
        {{- turn(message.role, message.content | trim) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- turn('assistant', '', '') }}
{%- endif %}"""

CHATGLM2 = """
{{- '[gMASK]sop' }}
{%- set ns = namespace(round=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- set ns.round = ns.round + 1 %}
        {{- '[Round ' ~ ns.round ~ ']\\n\\n问：' + message.content + '\\n\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '答：' + message.content + '\\n\\n' }}
    {%- else %}
        {{- raise_exception('it has no place for the role ' + message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '答：' }}
{%- endif %}"""

HERMES = """
{%- macro tool_prompt() %}
    {{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with ' }}
    {{- 'function signatures within <tools></tools> XML tags:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within ' }}
    {{- '<tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": ' }}
    {{- '<args-json-object>}\\n</tool_call>' }}
{%- endmacro %}
{%- if tools and (not messages or messages[0].role != 'system') %}
    {{- '<|im_start|>system\\n' + tool_prompt() + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first and tools %}
        {{- '<|im_start|>system\\n' + message.content + '\\n\\n' + tool_prompt() + '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '' }}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {{- '<|im_end|>\\n' if loop.last or loop.nextitem.role != 'tool' else '' }}
    {%- else %}
        {{- '<|im_start|>' + message.role }}
        {{- '\\n' + message.content if message.content or not message.tool_calls else '' }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": ' + call.function.name | tojson + ', "arguments": ' }}
            {{- call.function.arguments | tojson + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
