"""Examination of the finished file: the first questions of a new user, and ways to ask that it was not trained on.

`python -m training.evaluate MODEL.gguf` prints every answer, greedy, and how many have what they must.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import edgellama

from .corpus.chats import plain

FOLDER = Path(__file__).parent
FIRST = FOLDER / "first_questions.json"
HELD_OUT = FOLDER / "held_out_questions.json"
_MOST_TOKENS = 300


class Question(NamedTuple):
    """`contains`: what a sensible answer must have in it."""

    question: str
    contains: list[str]


def read_questions(path: Path) -> list[Question]:
    return [Question(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def held_out_questions() -> frozenset[str]:
    """The questions that must not be in the training text."""
    return frozenset(plain(entry.question) for entry in read_questions(HELD_OUT))


def answers(model: "edgellama.Model", questions: list[Question]) -> Iterator[tuple[Question, str, bool]]:
    """Each question, its greedy answer, and whether that has what it must."""
    for question in questions:
        messages = [{"role": "user", "content": question.question}]
        text = model.chat(messages, max_tokens=_MOST_TOKENS, temperature=0).run().text
        yield question, text, all(part in text for part in question.contains)


def sums(model: "edgellama.Model") -> tuple[int, int]:
    """How many of the sums of two numbers up to ten are right, and how many there are."""
    questions = [Question(f"What is {a} + {b}?", [f"= {a + b}"]) for a in range(11) for b in range(11)]
    return sum(is_right for _, _, is_right in answers(model, questions)), len(questions)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("model", type=Path)
    args = parser.parse_args(arguments)
    with edgellama.load(args.model) as model:
        for path in (FIRST, HELD_OUT):
            results = list(answers(model, read_questions(path)))
            for question, text, is_right in results:
                print(f"{'  ' if is_right else '! '}{question.question}\n    {text}")
            print(f"{path.name}: {sum(is_right for *_, is_right in results)} of {len(results)}\n")
        print("sums up to ten and ten: {} of {}".format(*sums(model)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
