"""`edgellama rm NAME`: remove models that were pulled, and what no other name needs of their bytes."""

import argparse

from edgellama.commands import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [NAME ...] [--unfinished]"
    parser.add_argument("names", metavar="NAME", nargs="*", help="as `edgellama list` shows it")
    parser.add_argument("--unfinished", action="store_true", help="remove what interrupted downloads left")


def main(args: argparse.Namespace) -> int:
    """Remove them, all or, if a name means none or several, nothing; 0. Raises EdgellamaError."""
    from edgellama.models.names import parse_name, size
    from edgellama.models.store import Store

    if not args.names and not args.unfinished:
        raise UsageError("give a NAME, or --unfinished")
    store = Store()
    models = []
    for text in args.names:
        name = parse_name(text)
        if name is None:
            raise UsageError(f"{text!r} is no name of a model: OWNER/REPO, OWNER/REPO:TYPE or OWNER/REPO:FILE.gguf")
        models.append(store.find(name, prefer=False))
    for model in dict.fromkeys(models):
        print(f"removed {model.path}, {size(store.remove(model))} freed")
    if args.unfinished:
        print(f"removed unfinished downloads, {size(store.remove_unfinished())} freed")
    return 0
