"""`edgellama list`: the models that were pulled."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")


def main(args: argparse.Namespace) -> int:
    """Print a line for each model; 0. Raises EdgellamaError for a damaged store."""
    from edgellama.models.names import short_name, size
    from edgellama.models.store import Store

    store = Store()
    models = store.models()
    n_left = sum(path.stat().st_size for path in store.unfinished())
    if args.json:
        entries = [model.as_json() | {"path": str(model.path), "n_bytes": model.n_bytes} for model in models]
        print(json.dumps({"folder": str(store.root), "models": entries, "unfinished_bytes": n_left}))
        return 0
    labels = [short_name(m.repository, m, [o for o in models if o.repository == m.repository]) for m in models]
    width = max(map(len, labels), default=0)
    for label, model in zip(labels, models, strict=True):
        print(f"{label.ljust(width)}  {size(model.n_bytes):>8}  {model.pulled[:10]}")
    if not models:
        print("No models yet: `edgellama pull OWNER/REPO` gets one.")
    if n_left:
        print(f"Unfinished downloads take {size(n_left)}: pull again to go on, or `edgellama rm --unfinished`.")
    return 0
