"""Masks: which tokens of a vocabulary may come next."""

import gc
import json
import random
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from grammar_oracle import Oracle
from grammar_texts import EXAMPLES, JSON
from grammar_walks import FIRST_BYTE, accepts, allowed_ids, byte_tokenizer, goes_on, walk
from vocabulary_builder import (
    BYTE,
    CONTROL,
    NORMAL,
    SPELLING,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    bpe_keys,
    spm_keys,
    write_vocabulary,
)  # fmt: skip

from edgellama.grammar import Grammar, GrammarError, TokenConstraint
from edgellama.tokenizer import from_gguf

END = 2
EXTRA = [
    *[("▁{", 0.0, NORMAL), ("{", 0.0, NORMAL), ("ab", 0.0, NORMAL), ("ab", 0.0, NORMAL), ("a", 0.0, NORMAL)],
    *[("<tool>", 0.0, USER_DEFINED), ("abc", 0.0, UNUSED), ("aab", 0.0, CONTROL), ("<|im_end|>", 0.0, NORMAL)],
]
SPACE_BRACE, BRACE, AB, AB_TOO, A, TOOL, UNUSED_ABC, CONTROL_AAB, IM_END = range(259, 259 + len(EXTRA))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return byte_tokenizer(tmp_path_factory.mktemp("vocabulary"), EXTRA)


def ids_of(text: str) -> list[int]:
    return [FIRST_BYTE + byte for byte in text.encode()]


# The mask


def test_which_tokens_are_text(tokenizer):
    constraint = TokenConstraint(Grammar.from_gbnf('root ::= "abc" | "aab" | "<tool>" | "<|im_end|>"'), tokenizer)
    assert allowed_ids(constraint) == sorted([*ids_of("a<"), AB, AB_TOO, A, TOOL])
    constraint.accept(AB_TOO)
    assert allowed_ids(constraint) == ids_of("c")


def test_ends_are_allowed_where_the_text_is_complete(tokenizer):
    assert tokenizer.end_ids == {END, IM_END}
    constraint = TokenConstraint(Grammar.from_gbnf('root ::= "a" "b"?'), tokenizer)
    assert not {END, IM_END} & {*allowed_ids(constraint)} and not constraint.is_complete
    constraint.accept(A)
    assert allowed_ids(constraint) == sorted([*ids_of("b"), END, IM_END])
    assert constraint.is_complete and not constraint.is_finished
    constraint.accept(ids_of("b")[0])
    assert allowed_ids(constraint) == [END, IM_END]
    assert constraint.is_complete and constraint.is_finished
    constraint.accept(IM_END)
    assert constraint.is_finished


@pytest.mark.parametrize("vocab_size", [None, 1, 33, 260, 264, 268, 288, 289, 500])
def test_the_mask_covers_the_logits(tokenizer, vocab_size):
    constraint = TokenConstraint(Grammar.from_gbnf('root ::= "" | "ab"'), tokenizer, vocab_size)
    n_tokens = tokenizer.vocab_size if vocab_size is None else vocab_size
    mask = constraint.allowed()
    assert (mask.dtype, mask.shape) == (np.uint32, ((n_tokens + 31) // 32,))
    wanted = [END, *ids_of("a"), AB, AB_TOO, A, IM_END]
    assert allowed_ids(constraint) == sorted(index for index in wanted if index < n_tokens)
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = 1


def test_tokens_of_several_characters(tmp_path):
    """A token is allowed exactly if the text goes on with all of its characters."""
    chance = random.Random(4)
    characters = ['"{}[]:,.-0123456789eE tfnrulas\n\\', "aé日"]
    pieces = {"".join(chance.choices("".join(characters), k=chance.randint(2, 6))) for _ in range(1500)}
    pieces |= {'":', '{"', '"}', "},", "[]", '", "', "true,", "null}", "1.5", "12]", '\\n"', 'é"', "日本", '": ["'}
    tokenizer = byte_tokenizer(tmp_path, [(piece.replace(" ", "▁"), 0.0, NORMAL) for piece in sorted(pieces)])
    texts = {index: tokenizer.piece_bytes(index).decode() for index in range(259, tokenizer.vocab_size)}
    constraint, oracle = TokenConstraint(Grammar.from_gbnf(JSON.gbnf), tokenizer), Oracle(JSON.gbnf)
    n_checked = 0
    for _ in range(12):
        constraint.reset()
        state = oracle.start
        for _ in range(12):
            wanted = [index for index, text in texts.items() if oracle.read(state, text)]
            assert [index for index in allowed_ids(constraint) if index in texts] == wanted
            n_checked += len(wanted)
            if not wanted:
                break
            token_id = chance.choice(wanted)
            constraint.accept(token_id)
            state = oracle.read(state, texts[token_id])
    assert n_checked > 1000


@pytest.mark.parametrize("token_id", [0, 1, END, 4, AB, UNUSED_ABC, 100_000, -1])
def test_what_is_not_allowed_is_not_accepted(tokenizer, token_id):
    constraint = TokenConstraint(Grammar.from_gbnf('root ::= "x" "y"', name="x.gbnf"), tokenizer)
    before = allowed_ids(constraint)
    with pytest.raises(GrammarError, match=rf"^x\.gbnf does not allow the token {token_id} here$"):
        constraint.accept(token_id)
    assert allowed_ids(constraint) == before
    assert goes_on(constraint, "xy") and constraint.is_finished


def test_forks_and_resets(tokenizer):
    constraint = TokenConstraint(Grammar.from_gbnf('root ::= "a" ("b" | "c") "d"'), tokenizer)
    assert goes_on(constraint, "a")
    other = constraint.fork()
    assert goes_on(other, "bd") and other.is_finished
    assert not constraint.is_complete and goes_on(constraint, "c") and goes_on(constraint.fork(), "d")
    constraint.reset()
    assert allowed_ids(constraint) == [*ids_of("a"), AB, AB_TOO, A] and other.is_finished


def test_the_empty_text(tokenizer):
    constraint = TokenConstraint(Grammar.from_gbnf('root ::= ""'), tokenizer)
    assert constraint.is_finished and allowed_ids(constraint) == [END, IM_END]


# Vocabularies


def test_spaces_are_part_of_the_text(tokenizer):
    """A token that begins with a space prints it, so where no space may come it is not allowed."""
    constraint = TokenConstraint(Grammar.any_json(), tokenizer)
    assert BRACE in allowed_ids(constraint) and SPACE_BRACE not in allowed_ids(constraint)
    spaced = TokenConstraint(Grammar.from_gbnf('root ::= " {"'), tokenizer)
    assert SPACE_BRACE in allowed_ids(spaced)
    spaced.accept(SPACE_BRACE)
    stream = tokenizer.stream(at_start=False)
    assert stream.push(SPACE_BRACE) == " {" and spaced.is_finished


def test_characters_split_over_byte_tokens(tokenizer):
    constraint = TokenConstraint(Grammar.from_gbnf('root ::= [é日] "😀"'), tokenizer)
    assert allowed_ids(constraint) == [FIRST_BYTE + 0xC3, FIRST_BYTE + 0xE6]
    for byte in "é😀".encode():
        assert not constraint.is_complete
        constraint.accept(FIRST_BYTE + byte)
    assert constraint.is_finished


def test_characters_split_over_longer_tokens(tmp_path):
    """Byte-level BPE: one token ends in the middle of a character, the next has the rest and more."""
    text = '"日本"'.encode()
    cut = [text[:3], text[3:6], text[6:]]
    words = ["".join(SPELLING[byte] for byte in part) for part in cut]
    keys = bpe_keys(words, specials=[("<|end|>", CONTROL)])
    tokenizer = from_gguf(write_vocabulary(tmp_path / "v.gguf", **keys))
    constraint = TokenConstraint(Grammar.from_json_schema({"const": "日本"}), tokenizer)
    for token_id in (256, 257, 258):
        assert token_id in allowed_ids(constraint) and not constraint.is_complete
        constraint.accept(token_id)
    assert constraint.is_finished and allowed_ids(constraint) == [259]


def test_a_vocabulary_without_the_bytes(tmp_path):
    """Only "a" and "b" besides the ends: what needs another byte stops with a sentence."""
    texts, types = ["<unk>", "</s>", "a", "b"], [UNKNOWN, CONTROL, NORMAL, NORMAL]
    keys = spm_keys() | {
        "tokens": (9, (8, texts)),
        "scores": (9, (6, [0.0] * 4)),
        "token_type": (9, (5, types)),
        "bos_token_id": None,
        "eos_token_id": (4, 1),
    }
    tokenizer = from_gguf(write_vocabulary(tmp_path / "v.gguf", **keys))
    constraint = TokenConstraint(Grammar.from_gbnf('root ::= "ab" | "ac"'), tokenizer)
    assert allowed_ids(constraint) == [2]
    constraint.accept(2)
    assert allowed_ids(constraint) == [3]
    stuck = TokenConstraint(Grammar.from_gbnf('root ::= "ac"', name="x.gbnf"), tokenizer)
    stuck.accept(2)
    for _ in range(2):
        with pytest.raises(GrammarError, match=r"^x\.gbnf allows no token of this vocabulary here$"):
            stuck.allowed()
    stuck.reset()
    assert allowed_ids(stuck) == [2]


def test_a_grammar_that_takes_too_much_work(tokenizer):
    options = " | ".join(f'"{number:04}" root' for number in range(6000))
    constraint = TokenConstraint(Grammar.from_gbnf(f'root ::= {options} | "x"', name="x.gbnf"), tokenizer)
    with pytest.raises(GrammarError, match=r"^x\.gbnf takes too much work here: ") as caught:
        walk(constraint, tokenizer, random.Random(1))
    assert "\n" not in str(caught.value)


def test_the_table_of_a_vocabulary_is_kept_as_long_as_the_tokenizer(tmp_path):
    tokenizer = byte_tokenizer(tmp_path)
    first, second = (TokenConstraint(Grammar.from_regex(text), tokenizer) for text in "ab")
    alive = weakref.ref(tokenizer)
    from edgellama.grammar.constraint import _tables

    assert tokenizer in _tables
    del tokenizer, first
    gc.collect()
    assert alive() is None
    assert allowed_ids(second) == ids_of("b")  # a constraint needs only its own


@pytest.mark.parametrize("name", ["ggml-vocab-llama-spm", "ggml-vocab-llama-bpe"])
def test_real_vocabularies(shared_data, name):
    """A JSON text in the model's own tokens is allowed, whole; a token takes a small part of a decode step."""
    tokenizer = from_gguf(shared_data / "vocab" / f"{name}.gguf")
    text = json.dumps({"name": "Ägnes, " * 9, "list": [1, -2.5e3, True, None], "o": {"日本": "\n"}}, ensure_ascii=False)
    prefix = len(tokenizer.encode("x\n", add_special=False))
    ids = tokenizer.encode("x\n" + text, add_special=False)[prefix:]
    assert tokenizer.decode([*tokenizer.encode("x\n", add_special=False), *ids]) == "x\n" + text
    for grammar in (Grammar.any_json(), Grammar.from_gbnf(JSON.gbnf)):
        constraint, seconds = TokenConstraint(grammar, tokenizer), []
        for token_id in ids:
            begin = time.perf_counter()
            is_allowed = bool(constraint.allowed()[token_id // 32] >> np.uint32(token_id % 32) & 1)
            assert is_allowed, tokenizer.piece_bytes(token_id)
            constraint.accept(token_id)
            seconds.append(time.perf_counter() - begin)
        assert constraint.is_complete
        assert np.median(seconds) < 1e-3


# Regular expressions

REGEXES = [
    (r"\d{3}-[a-f]+", ["123-a", "000-fed"], ["12-a", "123-", "123-g"]),
    (r"^(yes|no)$", ["yes", "no"], ["maybe", "yesno"]),
    (r"a/b\\c", ["a/b\\c"], ["a/bc"]),
    (r"a\\", ["a\\"], ["a"]),
    (r"(?i)ab|é", ["AB", "aB", "é"], ["É1", "a"]),
    ("a\nb", ["a\nb"], ["ab"]),
    (".*", ["", "a", "日本"], ["a\n"]),
    ("", [""], ["a"]),
]


@pytest.mark.parametrize(("pattern", "allowed", "refused"), REGEXES)
def test_regular_expressions(tokenizer, pattern, allowed, refused):
    constraint = TokenConstraint(Grammar.from_regex(pattern), tokenizer)
    assert all(accepts(constraint, text) for text in allowed)
    assert not any(accepts(constraint, text) for text in refused)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("(a", "the regular expression: unclosed group"),
        (r"(a)\1", "the regular expression: backreferences are not supported"),
        ("(?=a)", "the regular expression: look-around, including look-ahead and look-behind, is not supported"),
        (r"\bfoo", "lookarounds not supported"),
        ("(" * 9999, "the regular expression: "),
        ("a\\", "the regular expression ends with a backslash"),
        ("\ud800", "the regular expression has half of a surrogate pair"),
        (7, "the regular expression must be text, and is int"),
    ],
)
def test_wrong_regular_expressions(pattern, sentence):
    with pytest.raises(GrammarError, match=sentence.replace("(", r"\(")) as caught:
        Grammar.from_regex(pattern)
    assert "\n" not in str(caught.value)


# The library


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    for make in (lambda: Grammar.from_gbnf('root ::= "a"'), lambda: Grammar.from_regex("a"), Grammar.any_json):
        with pytest.raises(GrammarError, match=r"llguidance, which is missing: pip install llguidance$"):
            make()


def test_the_library_is_imported_late(run_python):
    code = "import sys, edgellama.grammar; print('llguidance' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"


@pytest.mark.parametrize("kind", ["chain", "cycle"])
def test_rules_that_nest_deeply_in_a_thread_with_a_small_stack(run_python, kind):
    """In a process of its own: an overflowing stack would end it."""
    last = {"chain": 'r4000 ::= "b"', "cycle": 'r4000 ::= "b" r0?'}[kind]
    code = (
        "import sys, threading; from edgellama.grammar import Grammar\n"
        "rules = ['root ::= r0'] + [f'r{n} ::= \"a\" (r{n + 1} | \"c\" r0)' for n in range(4000)]\n"
        f"text = '\\n'.join(rules + ['{last}'])\n"
        "threading.stack_size(1 << 18)\n"
        "thread = threading.Thread(target=lambda: print(Grammar.from_gbnf(text).name)); thread.start(); thread.join()"
    )
    result = run_python("-c", code)
    assert (result.returncode, result.stdout) == (0, "the grammar\n"), result.stderr[-500:]


def test_several_threads(tokenizer):
    """Constraints of one grammar and tokenizer, each in its thread."""
    grammar, results = Grammar.from_gbnf(EXAMPLES["arithmetic"].gbnf), {}

    def run(seed: int) -> None:
        constraint, chance = TokenConstraint(grammar, tokenizer), random.Random(seed % 4)
        results[seed] = [walk(constraint, tokenizer, chance, 60) for _ in range(5)]

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[seed] for seed in range(4)] == [results[seed] for seed in range(4, 8)]


def test_byte_tokens_are_what_the_tests_think(tokenizer):
    assert [int(kind) for kind in tokenizer.vocabulary.types[3:5]] == [BYTE, BYTE]
    assert tokenizer.piece_bytes(FIRST_BYTE + 0xE6) == b"\xe6" and tokenizer.piece_bytes(SPACE_BRACE) == b" {"
