"""`edgellama generate MODEL`: continue a text, printing each piece as it comes.

The text goes to standard output, everything else to standard error, so that the output can be piped. Ctrl-C ends the
text where it is and still prints the figures.
"""

import argparse
import json
import sys
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from edgellama.commands import model_options, prompt
from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    from edgellama import Model

_SAMPLE_OPTIONS = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "seed")
_STATISTICS = ("prompt_tokens", "prompt_seconds", "generated_tokens", "generate_seconds", "seed", "ids")
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a GGUF file; of a model in several files, the first")
    prompt.add_arguments(parser)
    parser.add_argument("--parse-special", action="store_true", help="read texts like <s> as control tokens")
    parser.add_argument(
        *("-n", "--max-tokens"),
        type=model_options.positive,
        default=256,
        metavar="N",
        help="stop after so many tokens (default: 256)",
    )
    _add_sample_arguments(parser)
    model_options.add_arguments(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--no-prompt", action="store_true", help="print only what the model adds to the prompt")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--ids", action="store_true", help="print the ids of the new tokens instead of text")
    form.add_argument("--json", action="store_true", help="print one JSON object at the end: text and figures")
    output.add_argument("-q", "--quiet", action="store_true", help="no figures on standard error")


def _add_sample_arguments(parser: argparse.ArgumentParser) -> None:
    """Left out, an argument stays out of the namespace: SampleOptions alone has the defaults, and checks the range."""
    group = parser.add_argument_group("choosing tokens", argument_default=argparse.SUPPRESS)
    group.add_argument("--temperature", type=float, metavar="T", help="0 takes the likeliest token (default: 0.8)")
    group.add_argument("--top-k", type=int, metavar="K", help="of the K likeliest tokens; 0 is off (default: 40)")
    group.add_argument(
        "--top-p", type=float, metavar="P", help="of the likeliest that reach P; 1 is off (default: 0.95)"
    )
    group.add_argument(
        "--min-p", type=float, metavar="P", help="none below P times the likeliest; 0 is off (default: 0.05)"
    )
    group.add_argument(
        "--repeat-penalty", type=float, metavar="R", help="make repetition less likely; 1 is off (default: 1.0)"
    )
    group.add_argument(
        "--repeat-last-n", type=int, metavar="N", help="how many tokens back the penalty looks (default: 64)"
    )
    group.add_argument("--seed", type=int, metavar="S", help="same seed, same text (default: a new one)")


def main(args: argparse.Namespace) -> int:
    """Print the continuation; 0, or 130 after Ctrl-C. Raises EdgellamaError if the model or the text does not work."""
    text = prompt.read(args)
    if args.prompt in (None, "-"):
        text = prompt.without_last_newline(text)
    with model_options.load(args) as model:
        ids = model.tokenizer.encode(text, parse_special=args.parse_special)
        if not ids:
            raise EdgellamaError("the prompt is empty, and this model has no token that begins a text")
        echo = "" if args.no_prompt or args.ids or args.json else text
        pieces: list[str] = []
        source = model.generate(ids, max_tokens=args.max_tokens, **model_options.given(args, _SAMPLE_OPTIONS))
        interrupted = _run(source, pieces, echo, show=not (args.ids or args.json))
        statistics = _statistics(model)
    if args.json:
        result = {"model": args.model, "prompt": text, "text": "".join(pieces), "interrupted": interrupted}
        print(json.dumps(result | statistics))
    else:
        print(*statistics.get("ids", ()) if args.ids else (), flush=True)
    if statistics and not (args.quiet or args.json):
        print(figures(statistics), file=sys.stderr)
    return _INTERRUPTED if interrupted else 0


def _run(source: Generator[str, None, None], pieces: list[str], echo: str, show: bool) -> bool:
    """Collect the pieces, printing them after `echo` as they come; whether Ctrl-C ended it."""
    try:
        with closing(source):  # so that the model's figures are final, also after Ctrl-C
            _print(echo)
            for piece in source:
                pieces.append(piece)
                if show:
                    _print(piece)
    except KeyboardInterrupt:
        return True
    return False


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _statistics(model: "Model") -> dict[str, Any]:
    """The figures of the generation; none if it was stopped before there were any."""
    found = model.last_stats
    return {} if found is None else {name: getattr(found, name) for name in _STATISTICS}


def figures(statistics: dict[str, Any]) -> str:
    """One line: `prefill 512 tokens 301.2 tok/s · decode 128 tokens 33.1 tok/s · seed 1234`."""
    steps = (("prefill", "prompt_tokens", "prompt_seconds"), ("decode", "generated_tokens", "generate_seconds"))
    parts = [_rate(name, statistics[tokens], statistics[seconds]) for name, tokens, seconds in steps]
    return " · ".join([*parts, f"seed {statistics['seed']}"])


def _rate(name: str, n_tokens: int, seconds: float) -> str:
    rate = f" {n_tokens / seconds:.1f} tok/s" if seconds > 0 else ""
    return f"{name} {n_tokens} tokens{rate}"
