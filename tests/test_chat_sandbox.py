"""The sandbox of chat templates: it renders what transformers renders, and refuses what would use up the machine."""

import datetime
import json
import sys
import threading
from pathlib import Path

import pytest
from hostile_templates import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st
from stock_jinja import NOW, render_stock

from edgellama.chat.budget import Limits
from edgellama.chat.errors import TemplateError, TemplateLimitError, TemplateRaisedError
from edgellama.chat.sandbox import render

MAX_SECONDS = 1.0
MAX_MEGABYTES = 64
VARIABLES = {
    "messages": [
        {"role": "system", "content": " Be <brief> & «kind».\n"},
        {"role": "user", "content": "Hi\nthere"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello", "tool_calls": [{"id": "a", "n": 1.5}]},
    ],
    "tools": [{"name": "f", "parameters": {"b": [1, None, True], "a": {"ü": "x"}}}],
    "text": "a-b-c",
    "nothing": None,
}

# Everything that templates in the wild were seen to use; ⏎ stands for a newline.
_SNIPPETS = r"""
{% for m in messages %}⏎  {% if loop.first %}F{% endif %}{{ m.role }}{{ loop.index0 }}{{ loop.last }}⏎{% endfor %}⏎
{% for m in messages[::-1] %}{{ loop.index }}:{{ m['role'] }};{% endfor %}
{% for m in messages if m.role != 'user' %}{{ loop.length }}{{ loop.previtem is defined }}{% else %}none{% endfor %}
{% for m in [] %}x{% else %}empty{% endfor %}
{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in range(5, 0, -2) %}{{ loop.cycle('a', 'b') }}{{ i }}{{ loop.revindex0 }}{% endfor %}
{% set ns = namespace(n=0, found=false) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}
{% set ns = namespace() %}{{ ns.x }}{{ ns.x is defined }}
{% macro t(n) %}{{ n }}{% if n %}{{ t(n - 1) }}{% endif %}{% endmacro %}{{ t(3) }}
{% set x = 1 %}{% for i in range(3) %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
{% set first, rest = messages[0], messages[1:] %}{{ first.role }}{{ rest | length }}
{% set block %}  a{{ text }} {% endset %}[{{ block }}]{% set up | upper %}b{% endset %}{{ up }}
{% macro m(a, b='d') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}{{ m(*[1, 2]) }}
{% macro m(n) %}<{{ caller(n) }}>{% endmacro %}{% call(k) m(3) %}{{ k + 1 }}{% endcall %}
{% filter upper %}a{{ text }}{% endfilter %}{% with a = 1, b = text %}{{ a }}{{ b }}{% endwith %}{{ a }}
{{ tools | tojson }}|{{ tools | tojson(indent=4) }}|{{ tools | tojson(separators=(',', ':'), sort_keys=true) }}
{{ messages[0].content | tojson }}{{ messages[0].content | tojson(ensure_ascii=true) }}{{ nothing | tojson }}
{{ messages[2].content.split('</think>')[-1].lstrip('\n') }}{{ text.rsplit('-', 1) }}{{ text.partition('-') }}
{{ text.startswith('a') }}{{ text.endswith(('x', 'c')) }}{{ text.find('b') }}{{ text.replace('-', '+', 1) }}
{{ ' x '.strip() + 'Ab'.lower() + 'Ab'.upper() + 'aB'.capitalize() + 'a b'.title() + 'aa'.removeprefix('a') }}
{{ '-'.join(['a', 'b']) }}{{ 'a\nb'.splitlines() }}{{ 'aab'.count('a') }}{{ '12'.isdigit() }}{{ 'b'.index('b') }}
{{ '{} {0}'.replace('0', 'x') }}{{ '{} and {}'.format(1, text) }}{{ '{a:>4}{b!r}'.format(a=1, b='x') }}
{{ '%s-%05.1f' % (text, 2.5) }}{{ '%(a)s' % {'a': 1} }}{{ '%d items' | format(3) }}{{ 7 % 4 }}
{{ messages[0].content | trim }}{{ text | upper | lower | title | capitalize }}{{ text | replace('-', '') }}
{{ text | length }}{{ messages | count }}{{ nothing | default('d') }}{{ nothing | d('d', true) }}
{{ missing | d('e') }}
{{ [3, 1, 2] | sort | join(',') }}{{ [3, 1] | sort(reverse=true) | list }}{{ ['b', 'A'] | sort }}
{{ [1, 1] | unique | list }}
{{ [1, 2] | sum }}{{ [1, 2] | max }}{{ [1, 2] | min }}{{ [1, 2] | first }}{{ [1, 2] | last }}
{{ [1, 2] | reverse | list }}
{{ messages | map(attribute='role') | join(', ') }}{{ ['a'] | map('upper') | list }}{{ messages | join('/', 'role') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ messages | rejectattr('tool_calls') | list | length }}
{{ [1, 2, 3] | select('odd') | list }}{{ [0, 1] | reject | list }}{{ nothing | selectattr('a') | list }}
{{ tools[0] | dictsort }}{{ tools[0].parameters | items | list }}{{ {'a': 1}.items() | list }}
{{ {'a': 1}.get('b', 2) }}
{{ 'a\nb\n\nc' | indent(2) }}{{ 'a\nb' | indent(2, true) }}{{ 'a\nb' | indent('> ', first=true, blank=true) }}
{{ '3' | int + 1 }}{{ 'x' | int(7) }}{{ '2.5' | float }}{{ 2.567 | round(1) }}{{ 2.1 | round(method='ceil') | int }}
{{ -1 | abs }}
{{ text | list }}{{ 5 | string + 'a' }}{{ '<&>' | e }}{{ text | safe }}{{ text | reverse }}
{{ 'b' in text }}{{ 'x' not in ['x'] }}{{ 'role' in messages[0] }}{{ 1 < 2 <= 2 }}{{ messages[0] == messages[1] }}
{{ text is string }}{{ tools is sequence }}{{ tools[0] is mapping }}{{ nothing is none }}{{ missing is defined }}
{{ 1 is number }}
{{ true is boolean }}{{ true is true }}{{ 2 is even }}{{ 4 is divisibleby(2) }}{{ text is iterable }}
{{ 'a' is in('ab') }}{{ 1 is eq(1) }}{{ 1.5 is float }}{{ missing is undefined }}{{ 'a' is lower }}{{ 3 is integer }}
{{ 1 if missing else 2 }}{{ 'x' if missing }}{{ missing or 'or' }}{{ not nothing }}{{ 1 and 2 }}{{ missing }}
{{ nothing }}
{{ 2 ** 10 }}{{ 7 // 2 }}{{ 7 / 2 }}{{ -3 + 1 }}{{ [1] + [2] }}{{ (1,) + (2,) }}{{ 'ab' * 2 }}{{ [0] * 2 }}
{{ 1 ~ 'a' ~ none }}
{{ text[0] }}{{ text[-1] }}{{ text[1:3] }}{{ messages[9] }}{{ messages[0]['nope'] }}{{ messages[-1].tool_calls[0].n }}
{{ tools[0].parameters.items is mapping }}{{ {'items': 1}['items'] }}{{ {'a': {'b': 1}}.a.b }}{{ {1: 2, 'x': 3} }}
{{- strftime_now('%Y-%m-%d') -}}  {{ strftime_now('%d %b %Y') }}
  {%- if true %} a {%+ if true %} b {% endif %}{# comment #}⏎{% endif -%}  ⏎ c {% raw %}{{ x }}{% endraw %}⏎
{{ dict(a=1) }}{{ [1, 'a', none, true, 1.5] }}{{ ('a',) }}{{ 'quo"te' }}{{ "it's" }}{{ '\u00fc\t' }}
"""
SNIPPETS = [line.replace("⏎", "\n") for line in _SNIPPETS.strip().splitlines()]


@pytest.mark.parametrize("source", SNIPPETS)
def test_renders_as_transformers_does(source):
    assert render(source, VARIABLES, now=NOW) == render_stock(source, VARIABLES)


def test_texts_stay_plain():
    """`safe` and `e` make no markup: what is added to it later is not escaped, unlike in stock Jinja."""
    assert render("{{ '<a>' | safe + '<b>' }}{{ '<' | e + '<' }}", {}) == "<a><b>&lt;<"


def test_generation_blocks_are_their_content():
    source = "{% for i in [1, 2] %}{% generation %}{% set x = i %}<{{ x }}>{% endgeneration %}{% endfor %}"
    assert render(source, {}) == "<1><2>"


def test_filters_that_are_never_reached_may_be_unknown():
    assert render("{% if false %}{{ x | nonsense(1, *[2]) }}{% endif %}a", {}) == "a"
    with pytest.raises(TemplateError, match="uses the filter 'nonsense'"):
        render("{{ x | nonsense }}", {})
    with pytest.raises(TemplateError, match="uses the test 'nonsense'"):
        render("{{ x is nonsense }}", {})


def test_counting_filters_change_nothing_when_called_by_name():
    assert render("{{ ['abc'] | map('guard slice', 1, 2, 1) | list }}", {}) == "['b']"
    with pytest.raises(TemplateError, match="refused"):
        render("{{ [1] | map('guard iterate') | list }}", {})


def test_variables_are_not_changed():
    variables = json.loads(json.dumps(VARIABLES))
    for source in [*SNIPPETS, *HOSTILE.values()][:80]:
        try:
            render(source, variables)
        except TemplateError:
            continue
    assert variables == VARIABLES


def test_variables_must_be_plain_data():
    with pytest.raises(TemplateError, match="object"):
        render("{{ x }}", {"x": object()})
    with pytest.raises(TemplateError, match="nests values"):
        deep = []
        for _ in range(100):
            deep = [deep]
        render("{{ x }}", {"x": deep})


@pytest.fixture(scope="module")
def hostile_results(run_python):
    """What a fresh process tells of all hostile templates: by name (error, sentence, seconds); and its growth in MB."""
    pytest.importorskip("resource", reason="peak memory is read from the resource module")
    result = run_python(str(Path(__file__).with_name("hostile_templates.py")))
    assert result.returncode == 0, result.stderr
    results, megabytes = json.loads(result.stdout)
    return {name: rest for name, *rest in results}, megabytes


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_are_refused_soon(hostile_results, name):
    error, sentence, seconds = hostile_results[0][name]
    assert error in ("TemplateError", "TemplateLimitError", "TemplateRaisedError"), (error, sentence)
    assert seconds < MAX_SECONDS
    assert sentence.startswith("the chat template was refused: ") and sentence.isprintable() and len(sentence) <= 300


def test_hostile_templates_take_little_memory(hostile_results):
    assert 0 <= hostile_results[1] < MAX_MEGABYTES


def test_the_template_can_refuse():
    with pytest.raises(TemplateRaisedError, match=r"does not take these messages: No system, please: \]0;x") as caught:
        render("{{ raise_exception('No system,\n please: \x1b]0;' ~ 'x' * 9999) }}", {})
    assert str(caught.value).isprintable() and len(str(caught.value)) <= 300


def test_syntax_errors_name_the_line():
    with pytest.raises(TemplateError, match="line 2: "):
        render("a\n{% if %}", {})


def test_limits_can_be_set():
    source = "{% for i in range(50) %}{{ i }}{% endfor %}"
    assert render(source, {}).endswith("49")
    for limits in (
        Limits(steps=40, steps_per_value=0),
        Limits(memory_bytes=2000, memory_bytes_per_value=0),
        Limits(source_characters=10),
        Limits(syntax_nodes=3),
    ):
        with pytest.raises(TemplateLimitError):
            render(source, {}, limits)
    with pytest.raises(TemplateLimitError, match=r"more than 0\.0 seconds"):
        render("{% for i in range(9999) %}{{ i }}{% endfor %}", {}, Limits(seconds=0.0))


def test_macros_may_be_as_deep_as_a_schema():
    source = "{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}"
    assert render(source, {}).startswith("403938")


def test_limits_grow_with_the_conversation():
    """Thousands of messages, each compared with all later ones, and one of megabytes."""
    messages = [{"role": "user", "content": f"number {i}"} for i in range(800)]
    source = (
        "{% for m in messages %}{% set ns = namespace(last=true) %}{% for later in messages[loop.index:] %}"
        "{% if later.role == 'system' %}{% set ns.last = false %}{% endif %}{% endfor %}{{ m.content }}{% endfor %}"
    )
    assert render(source, {"messages": messages}).endswith("number 799")
    long = "A sentence of several words. " * 150_000
    source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content | trim + '<|end|>' }}{% endfor %}"
    assert len(render(source, {"messages": [{"role": "user", "content": long}]})) > len(long)


def test_threads_render_apart():
    source = "{% for i in range(2000) %}{{ x }}{% endfor %}"
    texts: dict[str, str] = {}

    def work(name: str) -> None:
        texts[name] = render(source, {"x": name})

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {name: name * 2000 for name in "abcd"}


def test_time_is_told_as_given():
    assert render("{{ strftime_now('%H:%M') }}", {}, now=datetime.datetime(2030, 1, 2, 3, 4)) == "03:04"


def test_recursion_limit_of_a_deep_caller():
    """A caller that is near Python's own limit gets a sentence too."""

    def deeper(n: int) -> str:
        return deeper(n - 1) if n else render("{% macro m(n) %}{{ m(n - 1) if n }}{% endmacro %}{{ m(45) }}", {})

    depth = sys.getrecursionlimit() - 200
    with pytest.raises(TemplateLimitError, match="nested too deep"):
        deeper(depth - len(__import__("inspect").stack()))


_PIECES = (
    "{{ }} {% %} {%- -%} for if endfor endif set macro endmacro call endcall in x y messages m . role content [ ] ( )"
    " | trim tojson join map loop index ns namespace = == + * ** ~ % , : 'a' 1 100000 range not and or is defined"
)
PIECES = st.sampled_from(_PIECES.split())


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=40).map(" ".join))
def test_nothing_but_template_errors_comes_out(source):
    try:
        assert isinstance(render(source, VARIABLES), str)
    except TemplateError as error:
        assert str(error).isprintable()
