"""`edgellama logits MODEL`: the raw output of a model, for comparing it with another runtime."""

import argparse
from typing import TYPE_CHECKING

from edgellama.commands import UsageError, model_options, prompt
from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a GGUF file (of several, the first) or a pulled model")
    parser.add_argument("--ids", type=model_options.token_ids, metavar="1,2,3", help="token ids instead of a text")
    prompt.add_arguments(parser)
    parser.add_argument("--parse-special", action="store_true", help="read texts like <s> as control tokens")
    parser.add_argument(
        *("-o", "--output"),
        metavar="FILE.npy",
        required=True,
        help="where the logits go, as float32 of the shape (tokens, vocabulary)",
    )
    model_options.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Write the file; 0. Raises EdgellamaError for a model, a text or an output file that does not work."""
    if args.ids and prompt.is_given(args):
        raise UsageError("--ids stands in place of a text: leave out -p and -f")
    text = None if args.ids else prompt.read(args)
    with model_options.load(args) as model:
        ids = args.ids or model.tokenizer.encode(text, parse_special=args.parse_special)
        _write(args.output, model.logits(ids))
    return 0


def _write(path: str, logits: "np.ndarray") -> None:
    import numpy as np

    from edgellama.system import atomic_file

    try:
        with atomic_file(path) as file:
            np.save(file, np.ascontiguousarray(logits, np.float32))
    except OSError as error:
        raise EdgellamaError(f"cannot write {path}: {error.strerror or error}") from error
