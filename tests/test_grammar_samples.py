"""Texts that a model writes under a grammar at temperature 2: all valid when they end by themselves."""

import json
import re

import numpy as np
import pytest
from grammar_oracle import Oracle
from grammar_texts import ARITHMETIC, JSON, PERSON, RECOGNISERS, TREE
from grammar_walks import softmax_draw
from json_checker import Checker

import edgellama
from edgellama.grammar import Grammar, TokenConstraint

TEMPERATURE = 2.0
N_SAMPLES = 50  # of each of the grammars
DATE = r"(19|20)\d\d-(0[1-9]|1[0-2])-[0-3]\d( [a-z]{2,8}){0,2}"
SOURCES = {
    "person": (Grammar.from_json_schema(PERSON), lambda text: not Checker(PERSON).problem(json.loads(text))),
    "tree": (Grammar.from_json_schema(TREE), lambda text: not Checker(TREE).problem(json.loads(text))),
    "arithmetic": (Grammar.from_gbnf(ARITHMETIC.gbnf), RECOGNISERS["arithmetic"]),
    "date": (Grammar.from_regex(DATE), re.compile(DATE, re.ASCII).fullmatch),
}


@pytest.fixture(scope="module")
def model(request, synthetic_model):
    """A small trained model if it is there, else one of random weights."""
    trained = request.config.rootpath.parent / "shared" / "data" / "trained" / "stories260K" / "f32.gguf"
    with edgellama.load(trained if trained.exists() else synthetic_model("f32"), threads=1) as model:
        yield model


def sample(model, grammar: Grammar, seed: int, max_tokens: int) -> tuple[str, str]:
    """A text and why it ended: "stop" by itself, or "length"."""
    chance, constraint = np.random.default_rng(seed), TokenConstraint(grammar, model.tokenizer, model.config.vocab_size)
    stream, pieces = model.tokenizer.stream(at_start=False), []
    with model.new_session() as session:
        logits = session.prefill(model.tokenize("Once upon a time"))
        for _ in range(max_tokens):
            if constraint.is_finished:
                break
            token_id = softmax_draw(logits, constraint.allowed(), TEMPERATURE, chance)
            if token_id in model.tokenizer.end_ids:
                break
            constraint.accept(token_id)
            pieces.append(stream.push(token_id))
            logits = session.decode(token_id)
        else:
            return "".join([*pieces, stream.finish()]), "length"
    assert constraint.is_complete
    return "".join([*pieces, stream.finish()]), "stop"


@pytest.mark.parametrize("name", SOURCES)
def test_samples_are_valid(model, name):
    grammar, is_valid = SOURCES[name]
    ends = [sample(model, grammar, seed, max_tokens=300) for seed in range(N_SAMPLES)]
    for text, reason in ends:
        assert reason == "length" or is_valid(text), text
    assert sum(reason == "stop" for _, reason in ends) >= 0.8 * N_SAMPLES
    assert len({text for text, _ in ends}) > 0.9 * N_SAMPLES


@pytest.mark.parametrize("example", [ARITHMETIC, JSON], ids=["arithmetic", "json"])
def test_at_the_limit_a_text_is_the_beginning_of_a_valid_one(model, example):
    grammar, oracle = Grammar.from_gbnf(example.gbnf), Oracle(example.gbnf)
    for seed in range(10):
        text, reason = sample(model, grammar, seed, max_tokens=6)
        whole = text.removesuffix("\ufffd")  # the limit may have cut a character
        assert oracle.read(oracle.start, whole), text
        assert reason == "length" or oracle.accepts(text), text
