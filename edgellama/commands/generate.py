"""`edgellama generate MODEL`: continue a text, printing each piece as it comes.

The text goes to standard output, everything else to standard error, so that the output can be piped. Ctrl-C ends the
text where it is and still prints the figures.
"""

import argparse
import json
import sys
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any

from edgellama import system
from edgellama.commands import UsageError, model_options, prompt, sample_options
from edgellama.errors import EdgellamaError
from edgellama.terminal.answering import stream
from edgellama.terminal.safe_text import safe

if TYPE_CHECKING:
    from edgellama.generation import Answer, GenerationStats

_STATISTICS = ("prompt_tokens", "prompt_seconds", "generated_tokens", "generate_seconds", "seed", "ids")
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s MODEL [options]"
    parser.add_argument("model", metavar="MODEL", help="a GGUF file (of several, the first) or a pulled model")
    prompt.add_arguments(parser)
    parser.add_argument("--parse-special", action="store_true", help="read texts like <s> as control tokens")
    parser.add_argument(
        *("-n", "--max-tokens"),
        type=model_options.positive,
        default=256,
        metavar="N",
        help="stop after so many tokens (default: 256)",
    )
    sample_options.add_arguments(parser)
    model_options.add_arguments(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--no-prompt", action="store_true", help="print only what the model adds to the prompt")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--ids", action="store_true", help="print the ids of the new tokens instead of text")
    form.add_argument("--json", action="store_true", help="print one JSON object at the end: text and figures")
    output.add_argument(
        "--logprobs",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help="with --json: log probabilities of each token and of the N likeliest in its place",
    )
    output.add_argument("-q", "--quiet", action="store_true", help="no figures on standard error")


def main(args: argparse.Namespace) -> int:
    """Print the continuation; 0, or 130 after Ctrl-C. Raises EdgellamaError if the model or the text does not work."""
    if hasattr(args, "logprobs") and not args.json:
        raise UsageError("--logprobs needs --json")
    text = prompt.read(args)
    if args.prompt in (None, "-"):
        text = prompt.without_last_newline(text)
    options = sample_options.values(args) | model_options.given(args, ("logprobs",))
    with model_options.load(args) as model:
        ids = model.tokenizer.encode(text, parse_special=args.parse_special)
        if not ids:
            raise EdgellamaError("the prompt is empty, and this model has no token that begins a text")
        answer = model.generate(ids, max_tokens=args.max_tokens, **options)
        _run(answer, "" if args.no_prompt else text, shows_text=not (args.ids or args.json))
    if args.json:
        print(json.dumps({"model": args.model, "prompt": text} | _as_json(answer)))
    else:
        print(*answer.ids if args.ids else (), flush=True)
    if not (args.quiet or args.json):
        print(figures(answer.stats), file=sys.stderr)
    if answer.context_full:
        print("edgellama: the text ends here because the context is full (--context, --on-full)", file=sys.stderr)
    return _INTERRUPTED if answer.finish_reason == "cancelled" else 0


def _run(answer: "Answer", echo: str, shows_text: bool) -> None:
    """Run the answer to its end, or to Ctrl-C; print its pieces after `echo` as they come."""
    is_terminal = system.is_terminal(sys.stdout)
    with closing(stream(answer)) as pieces:
        for piece in chain([echo], pieces):
            if piece and shows_text:
                sys.stdout.write(safe(piece) if is_terminal else piece)
                sys.stdout.flush()


def _as_json(answer: "Answer") -> dict[str, Any]:
    stats = {name: getattr(answer.stats, name) for name in _STATISTICS}
    found = {"text": answer.text, "finish_reason": answer.finish_reason, "context_full": answer.context_full}
    return found | stats | ({"logprobs": [entry._asdict() for entry in answer.logprobs]} if answer.logprobs else {})


def figures(stats: "GenerationStats") -> str:
    """One line: `prefill 512 tokens 301.2 tok/s · decode 128 tokens 33.1 tok/s · seed 1234`."""
    prefill = _rate("prefill", stats.prompt_tokens, stats.prompt_seconds)
    decode = _rate("decode", stats.generated_tokens, stats.generate_seconds)
    return f"{prefill} · {decode} · seed {stats.seed}"


def _rate(name: str, n_tokens: int, seconds: float) -> str:
    rate = f" {n_tokens / seconds:.1f} tok/s" if seconds > 0 else ""
    return f"{name} {n_tokens} tokens{rate}"
