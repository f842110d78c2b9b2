"""`edgellama perplexity MODEL TEXT-FILE`: how well a model predicts a text, and how far it is from a base model.

A comparison takes two runs. The base model's, with --kl-divergence-base FILE, writes its log-probabilities to FILE;
that of every other model, with --kl-divergence too, reads them.
"""

import argparse
from contextlib import closing
from typing import TYPE_CHECKING, Any

from edgellama.commands import UsageError, chunk_options, tool_packages
from edgellama.commands.progress import progress_line
from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    from edgellama import Model
    from quant.log_prob_file import LogProbFile
    from quant.text_chunks import TextChunks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s MODEL TEXT-FILE [options]"
    parser.add_argument("model", metavar="MODEL", help="a GGUF file (of several, the first) or a pulled model")
    chunk_options.add_arguments(parser)
    parser.add_argument(
        *("--kl-divergence-base", "--save-logits"),
        dest="base",
        metavar="FILE",
        help="where the log-probabilities of the base model go; with --kl-divergence, where they are",
    )
    parser.add_argument(
        "--kl-divergence",
        action="store_true",
        help="compare with the base model on the base's tokens; TEXT-FILE may be left out, and is checked otherwise",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def main(args: argparse.Namespace) -> int:
    """Print the figures; 0. Raises EdgellamaError for a model, a text or a base file that does not work."""
    if args.kl_divergence and not args.base:
        raise UsageError("--kl-divergence needs the base model's log-probabilities: --kl-divergence-base FILE")
    if not args.kl_divergence and args.text is None:
        raise UsageError("a TEXT-FILE is needed")
    tool_packages.require("quant")
    figures = _compared(args) if args.kl_divergence else _measured(args)
    print(_as_json(args, figures) if args.json else _as_text(figures))
    return 0


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    """The perplexity; writes the base file on the way where one is wanted."""
    from contextlib import nullcontext

    from quant.log_prob_file import log_prob_writer
    from quant.perplexity import perplexity, scored_rows

    text = chunk_options.read_text(args)
    with chunk_options.load(args) as model, progress_line() as report:
        chunks = chunk_options.cut_text(args, model, text)
        writer = log_prob_writer(args.base, chunks, model.config.vocab_size) if args.base else nullcontext()
        with writer as save, closing(scored_rows(model, chunks, report)) as rows:
            found = perplexity(rows, save)
    return _size(chunks, found.n_tokens) | {"perplexity": found.estimate}


def _compared(args: argparse.Namespace) -> dict[str, Any]:
    """All that kl_divergence.statistics gives."""
    from quant.kl_divergence import compare_with_file, statistics
    from quant.log_prob_file import LogProbFile
    from quant.perplexity import scored_rows

    text = None if args.text is None else chunk_options.read_text(args)
    with LogProbFile(args.base) as base:
        if getattr(args, "context", base.context) != base.context:
            raise UsageError(f"{args.base} was written with --context {base.context}, and no other can be compared")
        with chunk_options.load(args, base.context) as model, progress_line() as report:
            chunks = _chunks_of(base, model, text).first(args.chunks)
            with closing(scored_rows(model, chunks, report)) as rows:
                positions = compare_with_file(rows, base)
    return _size(chunks, len(positions)) | statistics(positions)


def _chunks_of(base: "LogProbFile", model: "Model", text: str | None) -> "TextChunks":
    """The base's tokens. Raises EdgellamaError if they are not this model's, or not those of the text."""
    import numpy as np

    from quant.kl_divergence import base_chunks
    from quant.text_chunks import cut

    chunks = base_chunks(base, model)
    if text is not None and not np.array_equal(cut(model.tokenizer, text, base.context).ids[: len(chunks)], chunks.ids):
        raise EdgellamaError(f"{base.path}: was written with another text or tokenizer")
    return chunks


def _size(chunks: "TextChunks", n_tokens: int) -> dict[str, int]:
    return {"context": chunks.context, "chunks": len(chunks), "tokens": n_tokens}


def _as_json(args: argparse.Namespace, figures: dict[str, Any]) -> str:
    import json

    return json.dumps({"model": args.model} | _plain(figures), allow_nan=False)


def _plain(value: Any) -> Any:
    """Out of JSON's types: an estimate becomes an object, NaN and infinity null."""
    from math import isfinite

    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value if isfinite(value) else None


# What the text form shows: figure, label, digits after the point, and whether it is a share that shows in percent.
_LINES = (
    ("perplexity", "perplexity", 4, False),
    ("base_perplexity", "perplexity of the base", 4, False),
    ("difference", "difference", 6, False),
    ("ratio", "ratio", 6, False),
    ("log_ratio", "ln(ratio)", 6, False),
    ("correlation", "correlation of ln(p)", 2, True),
    ("same_top", "same likeliest token", 3, True),
)


def _as_text(figures: dict[str, Any]) -> str:
    lines = [f"{figures['tokens']:,} tokens scored in {figures['chunks']} chunks of {figures['context']}", ""]
    lines += [
        f"{label:<22}  {_figure(figures[name], digits, is_share)}"
        for name, label, digits, is_share in _LINES
        if name in figures
    ]
    if "divergence" in figures:
        lines += ["", *_distribution("KL divergence", figures["divergence"], 6, False)]
        lines += ["", *_distribution("change of p", figures["change"], 3, True)]
    return "\n".join(lines)


def _distribution(title: str, figures: dict[str, Any], digits: int, is_share: bool) -> list[str]:
    named = {name: figures[name] for name in ("mean", "rms", "maximum") if name in figures}
    named |= {("median" if p == "50" else f"{p} %"): value for p, value in figures["percentiles"].items()}
    named |= {"minimum": figures["minimum"]}
    return [f"{f'{title}, {name}':<22}  {_figure(value, digits, is_share)}" for name, value in named.items()]


def _figure(value: Any, digits: int, is_share: bool) -> str:
    factor, unit = (100, " %") if is_share else (1, "")
    if hasattr(value, "error"):
        return f"{factor * value.value:12.{digits}f} ± {factor * value.error:.{digits}f}{unit}"
    return f"{factor * value:12.{digits}f}{unit}"
