"""Chat templates that try to use up memory or time, or to reach what is no business of a template.

Run as a program, it renders them all and prints a JSON list of [name, error type, sentence, seconds of CPU time], then
the megabytes by which the process has grown at its largest.
"""

import json
import sys
import time

# Forty lists of two references are small, and 2**40 elements when gone through.
_SHARED = "{% set NS = namespace(x=['a']) %}{% for i in range(40) %}{% set NS.x = [NS.x, NS.x] %}{% endfor %}"
_TUPLES = _SHARED.replace("['a']", "('a',)").replace("[NS.x, NS.x]", "(NS.x, NS.x)")
_TWICE = _SHARED.replace("NS", "a") + _SHARED.replace("NS", "b")
_TWO_TUPLES = _TUPLES.replace("NS", "a") + _TUPLES.replace("NS", "b")
_BIG = "{% set big = 'ab ' * 1000000 %}"
_FOREVER = "{% for i in range(100000) %}"
_KEEP = "{% set ns = namespace(x=1) %}" + _FOREVER + "{% set ns.x = KEPT %}{% endfor %}"
_DOUBLING = "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = MORE %}{% endfor %}"


def _shared(use: str) -> str:
    return _SHARED.replace("NS", "a") + use


def _filled(unit: str, n_units: int, before: str = "", after: str = "") -> str:
    return before + "".join(unit.replace("%d", str(i)) for i in range(n_units)) + after


LOOPS = {
    "loops": _FOREVER + "{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "loops that print": _FOREVER + "{% for j in range(100000) %}x{{ j }}{% endfor %}{% endfor %}",
    "a text in a loop": _FOREVER + "x" * 2000 + "{% endfor %}",
    "a text in a loop in a macro": "{% macro m() %}"
    + _FOREVER
    + "x" * 2000
    + "{% endfor %}{% endmacro %}{% set y = m() %}",
    "a text in a loop in a block": "{% set y %}" + _FOREVER + "x" * 2000 + "{% endfor %}{% endset %}",
    "a text in a loop in a filter": "{% filter upper %}" + _FOREVER + "x" * 2000 + "{% endfor %}{% endfilter %}",
    "messages in a loop": _FOREVER + "{{ messages }}{% endfor %}",
    "statements that cost nothing": _FOREVER + "{% set a = 1 %}" * 1000 + "{% endfor %}",
    "filtered loop": (_FOREVER.replace(" %}", " if false %}") + "{% endfor %}") * 50,
    "long range": "{{ range(10 ** 9) | list }}",
    "many ranges": "{% for i in range(1000) %}{% set x = range(100000) | list %}{% endfor %}",
    "backward ranges": _FOREVER + "{% for j in range(100000)[::-1] %}{% endfor %}{% endfor %}",
    "sums": "{% for i in range(9999) %}{{ range(99999) | sum }}{% endfor %}",
    "loop length": _FOREVER + "{{ loop.length }}{% for j in range(90000) %}{{ loop.revindex }}{% endfor %}{% endfor %}",
    "recursive loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
}
RECURSION = {
    "macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "two macros": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "macro twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
    "call block": "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}"
    "{% endmacro %}{{ n() }}",
    "arguments": "{% macro m() %}{{ m(*varargs) }}{% endmacro %}{{ m(*range(99999)) }}",
    "own block": "{% block a %}{{ self.a() }}{% endblock %}",
    "nested values": _KEEP.replace("KEPT", "[ns.x]").replace("100000", "9999") + "{{ ns.x }}",
    "namespace in itself": "{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns.me }}",
    "parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "nested ifs": "{% if a %}" * 1500 + "{% endif %}" * 1500,
    "a long sum": "{{ " + "1 + " * 3000 + "1 }}",
}
REPETITION = {
    "text": "{{ 'a' * 10 ** 10 }}",
    "text, number first": "{{ 10 ** 10 * 'a' }}",
    "list": "{% set x = [1] * 10 ** 10 %}",
    "tuple": "{% set x = (1,) * 10 ** 10 %}",
    "doubling +": _DOUBLING.replace("MORE", "ns.x + ns.x"),
    "doubling ~": _DOUBLING.replace("MORE", "ns.x ~ ns.x"),
    "doubling %": _DOUBLING.replace("MORE", "'%s%s' % (ns.x, ns.x)"),
    "doubling format": _DOUBLING.replace("MORE", "'{0}{0}'.format(ns.x)"),
    "doubling join": _DOUBLING.replace("MORE", "[ns.x, ns.x] | join"),
    "doubling replace": _DOUBLING.replace("MORE", "ns.x | replace('a', 'aa')"),
    "doubling block": _DOUBLING.replace(
        "{% set ns.x = MORE %}", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"
    ),
    "doubling list": _DOUBLING.replace("'a'", "[1]").replace("MORE", "ns.x + ns.x"),
    "doubling dict": _DOUBLING.replace("'a'", "{}").replace("MORE", "{'a': ns.x, 'b': ns.x}") + "{{ ns.x }}",
    "squaring list": _DOUBLING.replace("'a'", "[1, 2]").replace("MORE", "ns.x * (ns.x | length)"),
    "join": "{{ range(99999) | join('x' * 100000) }}",
    "join method": "{{ ('x' * 100000).join(['a'] * 10000) }}",
    "join of joins": "{% set a = ['x' * 1000] * 1000 %}{% set b = [a | join] * 1000 %}{{ b | join }}",
    "replace": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "replace nothing": "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "indent": "{{ ('a\n' * 1000) | indent(10 ** 8) }}",
    "indent with a text": "{{ 'a\n' | indent('x' * 10 ** 9) }}",
    "tojson indent": "{{ [1] | tojson(indent=10 ** 10) }}",
    "tojson separators": "{{ [1, 2] | tojson(separators=('x' * 1000000, 'x')) }}",
    "tojson of controls": "{{ ['\x01' * 3000000] | tojson }}",
    "escape": "{% set big = '&' * 3000000 %}{{ big | e }}",
    "split": _BIG + "{% set x = big.split(' ') %}{% set y = big.split('b') %}",
    "split at wide spaces": "{% set big = '\u2003a' * 1000000 %}{% set x = big.split() %}",
    "lines": "{% set big = '\u2028a' * 1000000 %}{% set x = big.splitlines() %}",
    "characters": "{% set big = '\U0001f600' * 2000000 %}{% set x = big | list %}",
    "title": _BIG + "{% set x = big | title %}",
    "wide texts": _KEEP.replace("KEPT", "[ns.x, 'a' * 1000000 ~ '\U0001f600']"),
    "printed wide": _FOREVER + "{{ 'a' * 1000 }}{% endfor %}\U0001f600",
    "spread arguments": "{% macro m() %}{% endmacro %}{{ m(*('a' * 7000000)) }}",
    "join characters": "{{ ','.join('a' * 7000000) }}",
    "sort characters": "{{ ('a' * 7000000) | sort | length }}",
    "partitions": "{% set big = 'a' * 1000000 ~ 'b' %}" + _KEEP.replace("KEPT", "[ns.x, big.partition('b')]"),
    "long lists": _KEEP.replace("KEPT", "[ns.x, " + "1," * 3000 + "]"),
    "long dicts": _KEEP.replace("KEPT", "{'a': ns.x, " + ",".join(f"{i}:1" for i in range(800)) + "}"),
    "many splits": "{% set big = 'a ' * 1000 %}" + _KEEP.replace("KEPT", "[ns.x, big.split()]"),
    "namespaces": _KEEP.replace("KEPT", "namespace(a=ns.x, b=namespace(), c=namespace())"),
    "macros": _FOREVER + "{% macro m() %}{% endmacro %}{% endfor %}",
    "loops as values": "{% set ns = namespace(x=1) %}" + _FOREVER + "{% for j in [1] %}{% set ns.x = [ns.x, loop] %}"
    "{% endfor %}{% endfor %}",
}
SHARING = {
    "print": _shared("{{ a.x }}"),
    "tojson": _shared("{{ a.x | tojson }}"),
    "tojson indented": _shared("{{ a.x | tojson(indent=2) }}"),
    "string": _shared("{% set y = a.x | string %}"),
    "concatenate": _shared("{% set y = a.x ~ '' %}"),
    "percent": _shared("{% set y = '%s' % a.x %}"),
    "percent r": _shared("{% set y = '%r' % (a.x,) %}"),
    "format": _shared("{% set y = '{}'.format(a.x) %}"),
    "upper": _shared("{% set y = a.x | upper %}"),
    "raise": _shared("{{ raise_exception(a.x) }}"),
    "equal": _TWICE + "{{ a.x == b.x }}",
    "less": _TWICE + "{{ a.x < b.x }}",
    "in": _TWICE + "{{ a.x in [b.x] }}",
    "test": _TWICE + "{{ a.x is eq(b.x) }}",
    "select": _TWICE + "{{ [a.x] | select('eq', b.x) | list }}",
    "index": _TWICE + "{{ [a.x].index(b.x) }}",
    "count": _TWICE + "{{ [a.x].count(b.x) }}",
    "sort": _TWICE + "{{ [a.x, b.x] | sort }}",
    "max": _TWICE + "{{ [a.x, b.x] | max }}",
    "unique": _TWO_TUPLES + "{{ [a.x, b.x] | unique | list }}",
    "hash": _TWO_TUPLES + "{{ {}[a.x] }}",
    "hash in a literal": _TWO_TUPLES + "{% set d = {a.x: 1} %}",
    "hash in get": _TWO_TUPLES + "{{ {}.get(a.x) }}",
    "hash in in": _TWO_TUPLES + "{{ a.x in {} }}",
    "hash in dict()": _TWO_TUPLES + "{% set d = dict([[a.x, 1]]) %}",
    "hash in map": _TWO_TUPLES + "{{ [{}] | map(attribute=a.x) | list }}",
}
NUMBERS = {
    "power": "{{ 10 ** (10 ** 10) }}",
    "negative power": "{{ 10 ** -(10 ** 10) }}",
    "powers": _DOUBLING.replace("'a'", "3").replace("MORE", "ns.x ** 2"),
    "products": _DOUBLING.replace("'a'", "3").replace("MORE", "ns.x * ns.x"),
    "sums": "{% set ns = namespace(x=3) %}" + _FOREVER + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "digits": "{{ ('9' * 1000000) | int }}",
    "hexadecimal digits": "{{ ('f' * 1000000) | int(0, 16) }}",
    "float": "{{ ('9' * 4000000) | float }}",
    "literal": "{{ " + "9" * 60000 + " }}",
    "hexadecimal literal": "{{ 0x" + "f" * 60000 + " }}",
    "round": "{{ 1.5 | round(10 ** 10, 'ceil') }}",
    "width": "{{ '%10000000000d' % 1 }}",
    "width by argument": "{{ '%*d' % (10 ** 10, 1) }}",
    "precision": "{{ '%.1000000000f' % 1.0 }}",
    "width after a key": "{{ '%((a))9999999999d' % {'(a)': 1} }}",
    "width in format": "{{ '{:10000000000}'.format(1) }}",
    "width by argument in format": "{{ '{:{}}'.format(1, 10 ** 10) }}",
    "width in the format filter": "{{ '%10000000000d' | format(1) }}",
    "many fields": "{{ ('%(a)s' * 800) % {'a': 'x' * 100000} }}",
    "many keys": "{{ ('%(' * 100000) % {} }}",
    "date": "{{ strftime_now('%999999999d') }}",
    "long date": "{{ strftime_now('%Y' * 1000000) }}",
    "division by zero": "{{ 1 // 0 }}",
}
SLOW_SEARCHES = {
    "rfind": "{% set big = 'a' * 1000000 %}{{ big.rfind('b' ~ 'a' * 300000) }}",
    "rsplit": "{% set big = 'a' * 1000000 %}{{ big.rsplit('b' ~ 'a' * 300000) }}",
    "strip": "{% set big = 'z' * 1000000 %}{{ big.strip('abcdefghij' * 10000 ~ 'z') }}",
    "trim": "{% set big = 'z' * 1000000 %}{{ big | trim('abcdefghij' * 10000 ~ 'z') }}",
    "find": "{% set t = 'a' * 29000 %}{% set p = 'a' * 49 ~ 'b' ~ 'a' * 49 %}"
    + _FOREVER
    + "{{ t.find(p) }}{% endfor %}",
    "in a text": "{% set t = 'a' * 29000 %}{% set p = 'a' * 49 ~ 'b' ~ 'a' * 49 %}"
    + _FOREVER
    + "{{ p in t }}{% endfor %}",
    "in a range": _FOREVER + "{% if 'a' in range(100000) %}{% endif %}{% endfor %}",
    "compare": _BIG + "{% set c = 'ab ' * 1000000 %}" + _FOREVER + "{% if big == c %}{% endif %}{% endfor %}",
    "reject characters": "{% for i in range(1000) %}{{ ('a' * 100000) | reject | list }}{% endfor %}",
    "sort": "{% set big = range(9000) | list %}" + _FOREVER + "{% set x = big | sort(reverse=true) %}{% endfor %}",
    "dots": "{% set x = messages | map(attribute='a.' * 1000000) | list %}",
}
REACHING_OUT = {
    "class": "{{ ''.__class__ }}",
    "class as an item": "{{ ''['__class__'] }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attr": "{{ '' | attr('__class__') }}",
    "map": "{{ [''] | map(attribute='__class__') | list }}",
    "selectattr": "{{ [''] | selectattr('__class__') | list }}",
    "sort by": "{{ ['', 'a'] | sort(attribute='__class__') }}",
    "format": "{{ '{0.__class__}'.format('') }}",
    "format item": "{{ '{0[0]}'.format('a') }}",
    "format_map": "{{ '{a.__class__}'.format_map({'a': ''}) }}",
    "function": "{{ raise_exception.__globals__ }}",
    "function's body": "{{ range.body.__globals__ }}",
    "macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "method": "{{ 'a'.upper.__self__ }}",
    "loop": "{% for x in [1] %}{{ loop._iterator }}{% endfor %}",
    "namespace": "{{ namespace().__class__ }}",
    "undefined": "{{ nothing.__class__ }}",
    "number": "{{ (1).__class__ }}",
    "message": "{{ messages[0].__class__ }}",
    "self": "{{ self._TemplateReference__context }}",
    "calls a text": "{{ 'a'() }}",
    "include": "{% include 'x' %}",
    "import": "{% import 'x' as y %}",
    "from import": "{% from 'x' import y %}",
    "extends": "{% extends 'x' %}",
    "autoescape": "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "debug": "{% debug %}",
    "do": "{% do messages.append(1) %}",
    "append": "{{ messages.append(1) }}",
    "update": "{{ messages[0].update({'role': 'system'}) }}",
    "pop": "{{ messages.pop() }}",
    "lipsum": "{{ lipsum(1000000) }}",
    "cycler": "{{ cycler(1).next() }}",
    "joiner": "{{ joiner('x')() }}",
    "pprint": "{{ messages | pprint }}",
    "random": "{{ [1] | random }}",
    "batch": "{{ [1] | batch(10 ** 9, 'x') | list }}",
    "slice": "{{ [1] | slice(10 ** 9) | list }}",
    "wordwrap": "{{ 'a' | wordwrap(10 ** 9) }}",
    "center": "{{ 'a' | center(10 ** 10) }}",
    "center method": "{{ 'a'.center(10 ** 10) }}",
    "ljust": "{{ 'a'.ljust(10 ** 10) }}",
    "zfill": "{{ 'a'.zfill(10 ** 10) }}",
    "expandtabs": "{{ '\t'.expandtabs(10 ** 10) }}",
    "translate": "{{ 'a'.translate({97: 'a' * 10 ** 6}) }}",
    "encode": "{{ 'a'.encode() }}",
    "macro as data": "{% macro m() %}{% endmacro %}{{ [m] }}",
    "function as data": "{{ range }}",
    "complex numbers": "{{ (-8) ** 0.5 }}",
}
# As long as a template may be: what takes Jinja and Python longest to compile.
LONG = {
    "text": "x" * 70000,
    "names": _filled("{{ a%d }}", 1300) + _FOREVER + "{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "too many names": _filled("{{a%d}}", 6000),
    "unknown filters": _filled("{% if a | x%d %}{% endif %}", 900, after="{{ a | attr('x') }}"),
    "macros": _filled("{% macro a%d(b) %}{{ b }}{% endmacro %}", 300) + _FOREVER * 2 + "{% endfor %}" * 2,
    "branches": _filled("{% elif b%d %}", 1250, "{% if a %}", "{% endif %}") + _FOREVER * 2 + "{% endfor %}" * 2,
    "literals": _filled("a,", 1900, "{% set x = [", "] %}") + _FOREVER * 2 + "{% endfor %}" * 2,
    "assignments": _filled("{% set a%d = 1 %}", 950) + _FOREVER * 2 + "{% endfor %}" * 2,
}

HOSTILE: dict[str, str] = {
    f"{group}: {name}": source
    for group, templates in {
        "loops": LOOPS,
        "recursion": RECURSION,
        "repetition": REPETITION,
        "sharing": SHARING,
        "numbers": NUMBERS,
        "slow searches": SLOW_SEARCHES,
        "reaching out": REACHING_OUT,
        "long": LONG,
    }.items()
    for name, source in templates.items()
}


def _peak_megabytes() -> float:
    import resource

    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    from edgellama.chat.sandbox import render

    messages = [{"role": "user", "content": "hello"}]
    render("{{ messages | tojson }}", {"messages": messages})
    before = _peak_megabytes()
    results = []
    for name, source in HOSTILE.items():
        start = time.thread_time()
        try:
            error, sentence = "", render(source, {"messages": messages})[:80]
        except Exception as problem:
            error, sentence = type(problem).__name__, str(problem)
        results.append([name, error, sentence, time.thread_time() - start])
    print(json.dumps([results, _peak_megabytes() - before]))


if __name__ == "__main__":
    main()
