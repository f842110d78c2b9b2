"""GBNF grammars allow what they say, no more and no less."""

import random
import re

import pytest
from grammar_oracle import Oracle
from grammar_texts import EXAMPLES, RECOGNISERS
from grammar_walks import accepts, allowed_bytes, byte_tokenizer, goes_on, walk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgellama.grammar import Grammar, GrammarError, TokenConstraint, gbnf, lark, lexemes
from edgellama.grammar.rules import reachable


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return byte_tokenizer(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def constrain(tokenizer):
    return lambda text: TokenConstraint(Grammar.from_gbnf(text), tokenizer)


# Whole grammars


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(constrain, name):
    example = EXAMPLES[name]
    constraint, oracle = constrain(example.gbnf), Oracle(example.gbnf)
    for text in example.allowed:
        assert oracle.accepts(text), "the test itself"
        assert accepts(constraint, text), text
    for text in example.refused:
        assert not oracle.accepts(text), "the test itself"
        assert not accepts(constraint, text), text


PROBES = [chr(code) for code in (*range(9, 14), *range(32, 127), 0x85, 0xE9, 0x3042, 0x30A2, 0x4E00, 0x20001)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_may_follow_each_prefix(constrain, name):
    """At each place of the allowed texts, the bytes that may come next are the first ones of what the oracle takes."""
    example = EXAMPLES[name]
    constraint, oracle = constrain(example.gbnf), Oracle(example.gbnf)
    for text in example.allowed:
        constraint.reset()
        state = oracle.start
        for character in text:
            possible = {probe for probe in PROBES if oracle.read(state, probe)}
            found = allowed_bytes(constraint)
            assert {probe for probe in possible if probe < "\x7f"} == {chr(byte) for byte in found if byte < 0x7F} & {
                *PROBES
            }
            assert {probe.encode()[0] for probe in possible} <= found
            assert constraint.is_complete == (None in state)
            assert goes_on(constraint, character)
            state = oracle.read(state, character)


@pytest.mark.parametrize("name", RECOGNISERS)
def test_random_walks_end_in_the_language(constrain, tokenizer, name):
    constraint, chance = constrain(EXAMPLES[name].gbnf), random.Random(7)
    texts = [text for text, is_whole in (walk(constraint, tokenizer, chance, 200) for _ in range(40)) if is_whole]
    assert len(texts) >= 5
    for text in texts:
        assert RECOGNISERS[name](text), text


# The longest match is not always the right one

AMBIGUOUS = [
    ('root ::= "a"* "ab"', ["ab", "aab", "aaaab"], ["a", "b", "aba"]),
    ('root ::= "a"* "ab" | "a" "bc"', ["ab", "aab", "abc"], ["aabc", "bc"]),
    ('root ::= [a-z]+ "x"', ["ax", "xx", "abxcx"], ["x", "xa"]),
    ('root ::= "(" root ")" | [a-z]+ "x"', ["(ax)", "((xx))", "xyx"], ["(x)", "(ax"]),
    (
        'root ::= "(" root ")" | item item\nitem ::= "a" | "ab" | "bc"',
        ["abc", "(abbc)", "aab", "bcab"],
        ["ab", "abcb"],
    ),
    (
        'root ::= word (" " word)*\nword ::= "in" | "int" | "int" word | [a-z]+',
        ["in", "into", "int in"],
        ["int  in", " in"],
    ),
    ('root ::= x | "[" root "]"\nx ::= ("a" | "ab")* "b"', ["b", "ab", "abb", "[aab]", "[abab]"], ["a", "[ab", "ba"]),
    ('root ::= "é" "x" | "è"* "êy" | "<" root ">"', ["éx", "êy", "<èèêy>"], ["è", "éy", "<éx"]),
    ('root ::= ("é" | "éb") ("bè" | "è") root?', ["ébè", "éè", "ébbè", "ébèéè"], ["éb", "ébb"]),
    (
        'root ::= x y | "aéz" root?\nx ::= "a" | "(" root ")"\ny ::= "è" | "[" root "]"',
        ["aè", "aéz", "(aè)è", "aézaè", "a[aéz]"],
        ["a", "aé", "aéè", "(aéz)"],
    ),
    (
        'root ::= x [a-y]* y\nx ::= "1" | "1zz" | "(" root ")"\ny ::= "zy" | "[" root "]"',
        ["1zy", "1abzy", "1zzzy", "(1zy)zy", "1[1zzzy]"],
        ["1", "1zz", "1zzy", "1y"],
    ),
    ('root ::= ("a"? "b"?)* ("c" root)?', ["", "ab", "ba", "bbaac", "cab"], ["d", "cd"]),
    ('root ::= ("a"*)* "b" | "(" root ")"', ["b", "aab", "(ab)"], ["a", "(a)"]),
    ('root ::= a | b\na ::= "x" a "y" | "xy"\nb ::= "x" b "yy" | "xyy"', ["xxyy", "xyy", "xxyyyy"], ["xxyyy", "xyyy"]),
]


@pytest.mark.parametrize(("text", "allowed", "refused"), AMBIGUOUS)
def test_ambiguous_grammars(constrain, text, allowed, refused):
    constraint = constrain(text)
    for string in allowed:
        assert accepts(constraint, string), string
    for string in refused:
        assert not accepts(constraint, string), string


NAMES = ["root", "x", "y"]
atoms = st.one_of(
    st.text("aabcéèあ", min_size=1, max_size=3).map('"{}"'.format),
    st.sets(st.sampled_from("abcéè"), min_size=1, max_size=3).map(lambda found: f"[{''.join(sorted(found))}]"),
    st.sets(st.sampled_from("abcé"), min_size=1, max_size=2).map(lambda found: f"[^{''.join(sorted(found))}]"),
    st.sampled_from([*NAMES, "."]),
)
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({' '.join(parts)})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({' | '.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}"])).map("".join),
    ),
    max_leaves=10,
)
# A character before each body, so that few of these grammars begin with themselves.
bodies = st.tuples(st.sampled_from(['"a" ', '"é" ', "[bc]? ", ""]), expressions).map("".join)
grammars = st.lists(bodies, min_size=3, max_size=3).map(
    lambda found: "\n".join(f"{name} ::= {body} | [bc]" for name, body in zip(NAMES, found, strict=True))
)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=grammars, chance=st.randoms(use_true_random=False))
def test_random_grammars(constrain, text, chance):
    """Wherever a random walk over the texts leads, the constraint and the oracle allow the same."""
    try:
        constraint, oracle = constrain(text), Oracle(text, most_stacks=3000)
    except (GrammarError, OverflowError) as error:
        assert isinstance(error, OverflowError) or "begins with itself" in str(error)
        return
    for _ in range(6):
        constraint.reset()
        state = oracle.start
        for _ in range(8):
            try:
                nexts = {character: oracle.read(state, character) for character in "abcéèêあい"}
            except OverflowError:
                return
            assert constraint.is_complete == (None in state)
            for character, reached in nexts.items():
                assert goes_on(constraint.fork(), character) == bool(reached), character
            possible = [character for character, reached in nexts.items() if reached]
            if not possible:
                break
            character = chance.choice(possible)
            assert goes_on(constraint, character)
            state = nexts[character]


def test_lexemes_are_large_where_that_is_safe():
    """A JSON string is read in one piece, and so is a grammar that never needs itself."""
    program = lark.write(reachable(gbnf.parse(EXAMPLES["json"].gbnf)))
    terminals = re.findall(r"^T\d+: /(.*)/$", program, re.MULTILINE)
    assert any(re.fullmatch(r"\[\\x\{22}\]\(\?:.*\)\*\[\\x\{22}\]", regex) for regex in terminals)
    chess = lark.write(reachable(gbnf.parse(EXAMPLES["chess"].gbnf)))
    assert len(re.findall(r"^T\d+:", chess, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_single_characters_allow_the_same(constrain, monkeypatch, name):
    """What happens where the search for lexemes is given up."""
    monkeypatch.setattr(lexemes, "_MOST_STEPS", 0)
    example = EXAMPLES[name]
    program = lark.write(reachable(gbnf.parse(example.gbnf)))
    assert all(re.fullmatch(r"\[[^\]]*\]", regex) for regex in re.findall(r"^T\d+: /(.*)/$", program, re.MULTILINE))
    constraint = constrain(example.gbnf)
    assert all(accepts(constraint, text) for text in example.allowed)
    assert not any(accepts(constraint, text) for text in example.refused)


# The notation

NOTATION = [
    ('root::="a"', ["a"], ["", "aa"]),
    ('# first\n\n  root ::= # why not\n\n  "a" # end', ["a"], ["", "aa"]),
    ('root ::= "a" |\n\n "b"', ["a", "b"], ["ab"]),
    ('root ::= ("a"\n # inside\n  "b"\n)\r\nx ::= "c"', ["ab"], ["a", "c"]),
    ('root ::= "a"{2} "b"{1,2} "c"{0,1} "d"{1,}', ["aabd", "aabbcddd"], ["abd", "aabbbd", "aabc"]),
    ('root ::= ("ab" { 1 , 2 } "c") ?', ["", "abc", "ababc"], ["c", "abababc"]),
    ('root ::= "ab"* "c"', ["c", "ababc"], ["abbc"]),
    ('root ::= "a"{2}*', ["", "aa", "aaaa"], ["a", "aaa"]),
    ('root ::= "a"{0} "b"', ["b"], ["ab"]),
    ('root ::= "a"{0,2500}', ["", "a" * 2500], ["a" * 2501]),
    (r'root ::= "\n\t\r\\\"\[\]\-" "\x41\u00e9\U0001F600"', ['\n\t\r\\"[]-Aé😀'], ["A"]),
    (r"root ::= [\x41-C\]\[\\^-] [^\n\x00-\x1f]", ["A ", "]é", "[x", "\\y", "^0", "-1", "Bz"], ["D ", "A\n", "A\x1f"]),
    (r"root ::= [a-] [-a] [+\-*] [^-]", ["a-+a", "--*+", "aa-z"], ["b-+a", "a---"]),
    ('root ::= [^"]', ["a", "é", "日", "😀", "\n", "\x7f"], ['"', "", "\0", b"\xed\xa0\x80", b"\xff"]),
    (
        "root ::= .",
        ["a", "\n", "é", "日", "😀", "\U0010ffff"],
        ["", "ab", "\0", b"\xc3", b"\xc0\xaf", b"\xf5\x80"],
    ),
    ("root ::= [あ-う]", ["あ", "ぃ", "う"], ["え", b"\xe3\x81"]),
    ("root ::= [é-ü]", ["é", "ê", "ü"], ["è", "ý"]),
    ('root ::= a-1 Bb_2\na-1 ::= "x"\nBb_2 ::= "y"', ["xy"], ["x"]),
    ('root ::= "" | "a"', ["", "a"], ["aa"]),
    ('root ::= | "a"', ["", "a"], ["aa"]),
    ('root ::= "a" []', ["a"], ["", "aa"]),
    ('root ::= "a"\nroot ::= "b"', ["b"], ["a"]),
    ('root ::= "a\nb"', ["a\nb"], ["ab"]),
    ('1 ::= "a"\nroot ::= 1', ["a"], []),
]


@pytest.mark.parametrize(("text", "allowed", "refused"), NOTATION)
def test_notation(constrain, text, allowed, refused):
    constraint = constrain(text)
    for string in allowed:
        assert accepts(constraint, string), string
    for string in refused:
        assert not accepts(constraint, string), string


WRONG = [
    ("", "there is no rule named root"),
    ('x ::= "a"', "there is no rule named root"),
    ('root ::= "a" x\n', "line 1: there is no rule named 'x'"),
    ('root ::= "a"\n\ny ::= ("b" |\n  z)', "line 4: there is no rule named 'z'"),
    ('root ::= "a', 'line 1: " is not closed'),
    ("\nroot ::= [a-z\n", r"line 2: \[ is not closed"),
    ('root ::= ("a"\n"b"', "line 1: a parenthesis is not closed"),
    ('root ::= ("a" ] )', r"line 1: unexpected '\]'"),
    ('root ::= "a")', r"line 1: expected the end of the rule, and found '\)'"),
    ('root ::= "a"\n  | "b"', r"line 2: expected the name of a rule, and found '\|'"),
    ('root = "a"', "line 1: expected ::=, and found '='"),
    ("root", "line 1: expected ::="),
    ("root ::= *", r"line 1: '\*' follows nothing that it could repeat"),
    ('root ::= "a" | +', r"line 1: '\+' follows nothing"),
    ('root ::= "a"{,3}', "line 1: expected a number of repetitions, and found ','"),
    ('root ::= "a"{3', "line 1: a repetition must look like"),
    ('root ::= "a"{3,2}', r"line 1: \{3,2\} has fewer repetitions at most than at least"),
    (r'root ::= "\q"', r"line 1: \\q is none of"),
    (r'root ::= "\x4"', r"line 1: expected hexadecimal digits after \\x"),
    (r'root ::= "\ud800"', r"line 1: U\+D800 is no character"),
    (r"root ::= [\x00]", "line 1: a character class has no character"),
    ("root ::= [z-a]", "line 1: a range of characters goes backwards"),
    ("root ::= <think> .*", "line 1: single tokens"),
    ("root ::= !<[3]>", "line 1: single tokens"),
    ('root ::= root "a" | "b"', "line 1: the rule 'root' begins with itself"),
    ('root ::= "x" a\na ::= b? c\nb ::= "b"\nc ::= a "c" | ""', r"line \d: the rule '[ac]' begins with itself"),
    ('root ::= "a" | "b" x\nx ::= "c" x', "line 2: the rule 'x' can never end"),
    ("root ::= " + "(" * 41 + '"a"' + ")" * 41, "line 1: more than 40 parentheses"),
    ('root ::= "' + "a" * 250_000 + '"', "has 250011 characters, and at most 250000"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG, ids=range(len(WRONG)))
def test_wrong_grammars(text, sentence):
    with pytest.raises(GrammarError, match=f"^the grammar:? {sentence}") as caught:
        Grammar.from_gbnf(text)
    assert "\n" not in str(caught.value)


def test_the_name_of_the_source_is_said():
    with pytest.raises(GrammarError, match=r"^json\.gbnf: line 1: "):
        Grammar.from_gbnf("root", name="json.gbnf")
