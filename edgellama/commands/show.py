"""`edgellama show NAME`: where a pulled model came from, where it lies, what it is and what it takes."""

import argparse
import json

from edgellama.commands import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as `edgellama list` shows it")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")


def main(args: argparse.Namespace) -> int:
    """Print what is known; 0. Raises EdgellamaError for a name that no pulled model has, and for a damaged file."""
    from dataclasses import asdict

    from edgellama.commands.memory_speed import read_bytes_per_second
    from edgellama.commands.model_facts import facts_of, lines, print_rows
    from edgellama.gguf import open_gguf
    from edgellama.models.names import parse_name, size
    from edgellama.models.store import Store

    name = parse_name(args.name)
    if name is None:
        raise UsageError(f"{args.name!r} is no name of a model (`edgellama inspect` shows files)")
    model = Store().find(name)
    with open_gguf(model.path) as file:
        facts = facts_of(file, read_bytes_per_second())
    if args.json:
        print(json.dumps(model.as_json() | {"path": str(model.path), "n_bytes": model.n_bytes} | asdict(facts)))
        return 0
    print(f"{model.repository}:{model.file}")
    source = [("from", f"{model.endpoint}/{model.repository}, commit {model.commit[:12]}"), ("pulled", model.pulled)]
    digests = [("digest", f"{file.digest} ({size(file.n_bytes)})") for file in model.files]
    print_rows([*lines(facts), *source, *digests, ("file", model.path)])
    return 0
