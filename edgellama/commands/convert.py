"""`edgellama convert SOURCE -o OUT.gguf`: a checkpoint as a GGUF file."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellama.commands import UsageError, tool_packages
from edgellama.commands.model_options import positive
from edgellama.commands.progress import progress_line
from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    from converters.conversion import Conversion

_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="folder of Hugging Face's, Meta's or PEFT's, or llama2.c .bin")
    parser.add_argument("-o", "--output", metavar="OUT.gguf", help="the file to write")
    parser.add_argument(
        "--type", dest="type_name", metavar="TYPE", help="type of the matrices (f16; FP8 and int4 stay)"
    )
    parser.add_argument(
        "--fp8-granularity",
        default="row",
        choices=("row", "tensor", "block"),
        help="what shares a scale where --type fp8 rounds (row)",
    )
    parser.add_argument("--base", type=Path, metavar="DIR", help="the model that SOURCE, an adapter or delta, changes")
    parser.add_argument("--keep-adapter", action="store_true", help="write a LoRA adapter as one, without its base")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written, and write nothing")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run of the same kind stopped")
    parser.add_argument("-t", "--threads", type=positive, metavar="N", help="threads that encode (default: all cores)")
    parser.add_argument("--name", metavar="TEXT", help="the model's name (default: that of SOURCE)")
    parser.add_argument("--context", type=positive, metavar="N", help="context length (default: the checkpoint's)")
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="a tokenizer file, or the folder that has one")
    parser.add_argument("--pre-tokenizer", metavar="NAME", help="rule that splits text, where the files do not say it")
    parser.add_argument("--json", action="store_true", help="print the plan or the result as one JSON object")


def main(args: argparse.Namespace) -> int:
    """Write the file, or show the plan; 0. Raises EdgellamaError for a checkpoint that cannot be converted."""
    if not args.output and not args.dry_run:
        raise UsageError("name the file to write with -o, or give --dry-run")
    conversion = _plan(args)
    for note in conversion.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.dry_run:
        print(_as_json(conversion, None) if args.json else _as_table(conversion))
        return 0
    seconds = _write(conversion, args)
    print(_as_json(conversion, args.output) if args.json else _summary(conversion, args.output, seconds))
    return 0


def _plan(args: argparse.Namespace) -> "Conversion":
    tool_packages.require("converters")
    try:
        from converters.adapter_conversion import plan_adapter
        from converters.conversion import ConvertOptions, SourceOptions, plan_conversion
    except ModuleNotFoundError as error:
        raise EdgellamaError(
            f"converting needs the package {error.name!r}; install it with `pip install 'edgellama[convert]'`"
        ) from error
    source = SourceOptions(args.tokenizer, args.pre_tokenizer, args.base)
    type_name = args.type_name and args.type_name.lower()
    options = ConvertOptions(type_name, args.name, args.context, source, args.fp8_granularity)
    plan = plan_adapter if args.keep_adapter else plan_conversion
    return plan(args.source, options)


def _write(conversion: "Conversion", args: argparse.Namespace) -> float:
    """Seconds that it took."""
    from converters.conversion import write_conversion

    begin = time.monotonic()
    with _told_to_resume(args.output), progress_line() as line:

        def report(done: int, total: int) -> None:
            if line:
                line(_what(done, total, time.monotonic() - begin), done, total)

        write_conversion(conversion, args.output, args.threads, args.resume, report)
    return time.monotonic() - begin


@contextmanager
def _told_to_resume(output: str) -> Iterator[None]:
    from converters.partial_file import partial_path

    try:
        yield
    except KeyboardInterrupt:
        partial = partial_path(Path(output))
        if partial.exists():
            print(f"\nstopped; --resume goes on with {partial}", file=sys.stderr)
        raise


def _what(done: int, total: int, seconds: float) -> str:
    if not done or seconds < 1:
        return "converting"
    return f"converting, {done / _MIB / seconds:.0f} MiB/s, {(total - done) * seconds / done:.0f} s left"


def _summary(conversion: "Conversion", output: str, seconds: float) -> str:
    n_tensors, size = len(conversion.outputs), conversion.data_bytes / _MIB
    return f"{output}: {n_tensors} tensors, {size:,.1f} MiB, in {seconds:.1f} s"


def _rows(conversion: "Conversion") -> list[dict[str, Any]]:
    return [
        {
            "name": output.name,
            "type": output.type_name,
            "shape": list(output.tensor.shape),
            "bytes": output.n_bytes,
            "source": output.source,
            "source_type": output.tensor.stored.name,
        }
        for output in conversion.outputs
    ]


def _as_json(conversion: "Conversion", output: str | None) -> str:
    import json

    facts = {"architecture": conversion.architecture, "bytes": conversion.data_bytes, "output": output}
    return json.dumps({**facts, "notes": conversion.notes, "tensors": _rows(conversion)})


def _as_table(conversion: "Conversion") -> str:
    rows = _rows(conversion)
    shapes = [" x ".join(map(str, row["shape"])) for row in rows]
    width = max(len(row["name"]) for row in rows)
    lines = [
        f"{row['name']:{width}} {row['type']:8} {shape:>16} {row['bytes']:>14,}  {row['source']}"
        for row, shape in zip(rows, shapes, strict=True)
    ]
    keys = [f"{key} = {value}" for key, value in conversion.metadata.items() if not isinstance(value, list | bytes)]
    total = f"{len(lines)} tensors, {conversion.data_bytes / _MIB:,.1f} MiB"
    return "\n".join([*(key[:120].replace("\n", "\\n") for key in keys), "", *lines, "", total])
