"""`edgellama tokenize MODEL`: a text as the tokens of a model."""

import argparse
from typing import TYPE_CHECKING

from edgellama.commands import UsageError, model_options, prompt

if TYPE_CHECKING:
    from edgellama.tokenizer import Tokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a GGUF file (its tokenizer is enough) or a pulled model")
    prompt.add_arguments(parser)
    parser.add_argument(
        "--decode", type=model_options.token_ids, metavar="1,2,3", help="the way back: the text of these ids"
    )
    parser.add_argument("--no-special", action="store_true", help="leave out the BOS and EOS tokens the model wants")
    parser.add_argument("--parse-special", action="store_true", help="read texts like <s> as control tokens")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--ids", action="store_true", help="print the ids in one line")
    form.add_argument("--count", action="store_true", help="print how many tokens there are, and nothing else")
    form.add_argument("--json", action="store_true", help="print one JSON object with ids and pieces")


def main(args: argparse.Namespace) -> int:
    """Print the tokens; 0. Raises EdgellamaError for a file, a text or an id that does not work."""
    from edgellama.models import model_path
    from edgellama.tokenizer import from_gguf

    if args.decode and prompt.is_given(args):
        raise UsageError("--decode stands in place of a text: leave out -p and -f")
    text = None if args.decode else prompt.read(args)
    tokenizer = from_gguf(model_path(args.model))
    special = {"add_special": not args.no_special, "parse_special": args.parse_special}
    ids = args.decode or tokenizer.encode(text, **special)
    if args.ids:
        print(*ids)
    elif args.count:
        print(len(ids))
    elif args.json:
        print(_as_json(ids, tokenizer))
    elif args.decode:
        print(tokenizer.decode(ids))
    else:
        for index in ids:
            print(f"{index:>7}  {_quoted(tokenizer.piece_bytes(index))}")
    return 0


def _as_json(ids: list[int], tokenizer: "Tokenizer") -> str:
    r"""Bytes of a piece that are no whole character appear as \xNN."""
    import json

    pieces = [tokenizer.piece_bytes(index).decode(errors="backslashreplace") for index in ids]
    return json.dumps({"ids": ids, "pieces": pieces})


def _quoted(piece: bytes) -> str:
    """As Python writes it, so that a terminal obeys nothing in it: 'text', or b'...' for a part of a character."""
    try:
        return repr(piece.decode())
    except UnicodeDecodeError:
        return repr(piece)
