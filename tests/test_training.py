"""The text that the bundled model learns from: what it says is true, and what it is examined with is not in it.

Training itself needs PyTorch and an hour; `training.evaluate` and `test_bundled.py` judge what comes of it.
"""

import random
import re
from itertools import islice
from pathlib import Path

import pytest

import edgellama
from edgellama import bundled, cli
from edgellama.chat import prompt
from edgellama.terminal.slash_commands import COMMANDS as SLASH_COMMANDS
from training.corpus import facts
from training.corpus.chats import chats, plain
from training.corpus.noise import typed
from training.corpus.patterns import expand
from training.corpus.topics import all_topics
from training.data_set import Encoder
from training.evaluate import held_out_questions

REPOSITORY = Path(__file__).resolve().parent.parent
ANSWERS = sorted({answer for topic in all_topics() for answer in topic.answers})


def some_chats(count: int, seed: int = 11, left_out: frozenset[str] = frozenset()) -> list[list[dict[str, str]]]:
    return list(islice(chats(seed, left_out), count))


# Patterns and topics


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("plain", {"plain"}),
        ("(a|b) c", {"a c", "b c"}),
        ("(a|b|)(| d)", {"a", "b", "", "a d", "b d", "d"}),
        ("x (a (b|c)|d)?", {"x a b?", "x a c?", "x d?"}),
        (r"1 \+ \(2\)", {"1 + (2)"}),
        ("my {name}(|!)", {"my Ida", "my Ida!"}),
    ],
)
def test_patterns(pattern, texts):
    rng = random.Random(3)
    assert {expand(pattern, rng, name="Ida") for _ in range(200)} == texts


def test_topics_have_questions_and_answers():
    topics = all_topics()
    assert len(topics) > 80
    assert len({topic.name for topic in topics}) == len(topics)
    assert all(topic.questions and topic.answers and topic.weight > 0 for topic in topics)


def test_no_pattern_leaves_signs_of_itself():
    rng = random.Random(5)
    questions = [expand(pattern, rng) for topic in all_topics() for pattern in topic.questions for _ in range(5)]
    assert not [question for question in questions if re.search(r"[{}|\\]|^$", question)]


def test_a_slip_changes_little():
    rng = random.Random(7)
    text = "How do I get a real model?"
    assert all(abs(len(typed(text, rng)) - len(text)) < 40 for _ in range(300))
    assert len({typed(text, rng) for _ in range(300)}) > 50


# What is said is true


def test_sums_are_right():
    rng = random.Random(9)
    sums = [answer for _, answer in (facts.fact(rng) for _ in range(4000)) if "=" in answer]
    assert len(sums) > 500
    for text in sums:
        left, right, total = map(int, re.fullmatch(r"(\d+) \+ (\d+) = (\d+)", text).groups())
        assert left + right == total


def test_commands_in_answers_exist():
    known = {*cli.COMMANDS, "reads", "removes"}  # the last two are verbs of sentences
    named = {name for text in ANSWERS for name in re.findall(r"(?:^|\s)edgellama ([a-z]+) (?=[A-Za-z]*[A-Z./-])", text)}
    assert {"chat", "convert", "quantize", "pull", "inspect"} <= named <= known


def test_slash_commands_in_answers_exist():
    named = {name for text in ANSWERS for name in re.findall(r"(?:^|\s)/([a-z]+)", text)}
    assert "help" in named
    assert named <= {command.lstrip("/") for command in SLASH_COMMANDS}


def test_documents_in_answers_exist():
    named = {path for text in ANSWERS for path in re.findall(r"docs/[\w-]+\.md", text)}
    assert len(named) >= 3
    assert all((REPOSITORY / path).is_file() for path in named)


def test_options_in_answers_exist(run_python):
    named = {option for text in ANSWERS for option in re.findall(r"--[a-z-]+", text)} - {"--type"}  # of convert
    text = run_python("-m", "edgellama", "chat", "--help").stdout + "--help"
    assert len(named) > 5
    assert [option for option in named if option not in text] == []


def test_the_real_model_is_the_one_of_the_command_line():
    named = [
        line.split()[-1] for text in ANSWERS for line in text.split("\n") if re.match("edgellama (pull|chat) b", line)
    ]
    assert set(named) == {bundled.REAL_MODEL}


# The chats


def test_the_same_seed_gives_the_same_chats():
    assert some_chats(20) == some_chats(20)
    assert some_chats(20) != some_chats(20, seed=12)


def test_questions_of_the_examination_are_left_out():
    question = "Who are you?"
    asked = {plain(m["content"]) for chat in some_chats(2000) for m in chat if m["role"] == "user"}
    assert plain(question) in asked
    left_out = held_out_questions() | {plain(question)}
    asked = {plain(m["content"]) for chat in some_chats(2000, left_out=left_out) for m in chat if m["role"] == "user"}
    assert not asked & left_out


def test_training_and_chatting_write_messages_the_same_way():
    with edgellama.load() as model:
        encoder = Encoder(model.tokenizer._processor)
        template = prompt.template_for(model, None, with_tools=False)
        for chat in some_chats(50):
            if not chat or chat[-1]["role"] != "assistant":
                continue
            ids, own = encoder.encode(chat)
            asked = prompt.encode(template, chat[:-1], model.tokenizer, [])
            assert ids[: len(asked)] == asked
            assert own[len(asked) :] == [True] * (len(ids) - len(asked) - 1) + [False]
            assert ids[-2] == model.tokenizer.eos_id
