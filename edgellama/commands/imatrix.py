"""`edgellama imatrix MODEL TEXT-FILE -o OUT.gguf`: which weights a text makes matter, for `edgellama quantize`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgellama.commands import UsageError, chunk_options, tool_packages
from edgellama.commands.progress import progress_line
from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    from quant.imatrix_file import ActivationSums


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [MODEL TEXT-FILE] -o OUT.gguf [options]"
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a GGUF file, best one that is not quantized")
    chunk_options.add_arguments(parser)
    parser.add_argument("-o", "--output", metavar="OUT.gguf", required=True, help="the file to write")
    parser.add_argument(
        "--in-file",
        action="append",
        default=[],
        metavar="FILE",
        help="add what another run wrote; may be repeated, and without MODEL the files are only joined",
    )
    parser.add_argument("--process-output", action="store_true", help="look at the output matrix too")


def main(args: argparse.Namespace) -> int:
    """Write the file; 0. Raises EdgellamaError for a model, a text or a file that does not work."""
    if args.model is None and not args.in_file:
        raise UsageError("a MODEL and a TEXT-FILE are needed, or files to join: --in-file FILE")
    if args.model is not None and args.text is None:
        raise UsageError("a TEXT-FILE is needed")
    tool_packages.require("quant")
    if not Path(args.output).absolute().parent.is_dir():
        raise EdgellamaError(f"cannot write {args.output}: its folder does not exist")
    found = _joined(args.in_file)
    if args.model is not None:
        found = _collected(args, found)
    _write(args.output, found)
    print(f"{args.output}: {len(found.tensors)} tensors, {found.n_chunks} chunks of {found.chunk_size} tokens")
    return 0


def _joined(paths: list[str]) -> "ActivationSums | None":
    from quant import imatrix_file

    found = None
    for path in paths:
        other = imatrix_file.read(path)
        found = found or imatrix_file.ActivationSums(other.chunk_size)
        found.merge(other)
    return found


def _collected(args: argparse.Namespace, earlier: "ActivationSums | None") -> "ActivationSums":
    """What earlier runs saw and this one sees, in chunks of this one's size."""
    from quant.imatrix import collect
    from quant.imatrix_file import ActivationSums

    text = chunk_options.read_text(args)
    with chunk_options.load(args) as model, progress_line() as report:
        found = ActivationSums(model.context)
        if earlier:
            found.merge(earlier)
        collect(model, chunk_options.cut_text(args, model, text), found, output=args.process_output, report=report)
    found.datasets.append(args.text)
    return found


def _write(path: str, found: "ActivationSums") -> None:
    from quant import imatrix_file

    try:
        imatrix_file.write(path, found)
    except OSError as error:
        raise EdgellamaError(f"cannot write {path}: {error.strerror or error}") from error
