"""`edgellama pull OWNER/REPO[:TYPE]`: get a model from the Hugging Face hub.

The header comes first, so what the model is, takes and cannot do is known before its weights are fetched. What has
arrived is kept when the download stops, and the same command goes on from there.
"""

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from edgellama import system
from edgellama.commands import UsageError
from edgellama.errors import EdgellamaError
from edgellama.models.names import is_revision, parse_name, short_name, size

if TYPE_CHECKING:
    from edgellama.commands.download_bar import DownloadBar
    from edgellama.commands.model_facts import ModelFacts
    from edgellama.models.download import Download
    from edgellama.models.hub import Hub, RemoteModel, Repository
    from edgellama.models.store import Store, StoredModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="OWNER/REPO[:TYPE]",
        help="a repository with GGUF files, and which: a type such as Q4_K_M (the default, where there is one) or a "
        "file's name",
    )
    parser.add_argument("--revision", default="main", metavar="NAME", help="a branch, tag or commit (default: main)")
    parser.add_argument("--endpoint", metavar="URL", help="another hub (default: HF_ENDPOINT, or huggingface.co)")
    parser.add_argument("-y", "--yes", action="store_true", help="also get what does not fit, without asking")
    parser.add_argument("--dry-run", action="store_true", help="show what the model is and takes, and get nothing")


def main(args: argparse.Namespace) -> int:
    """Get the model; 0, or 2 when a person says no. Raises EdgellamaError, and OSError for network and disk."""
    from edgellama.models.hub import Hub, find_token
    from edgellama.models.names import choose
    from edgellama.models.store import Store

    name = parse_name(args.name)
    if name is None:
        raise UsageError(f"{args.name!r} is no name of a model: OWNER/REPO, OWNER/REPO:TYPE or OWNER/REPO:FILE.gguf")
    if not is_revision(args.revision):
        raise UsageError(f"{args.revision!r} is no branch, tag or commit")
    hub, store = Hub(args.endpoint, find_token()), Store()
    repository = hub.repository(name.repository, args.revision)
    model = choose(name, repository.models, f"{name.repository} on {hub.host}")
    label = short_name(name.repository, model, repository.models)
    if _is_here(model, name.repository, store):
        print(f"{label} is here already: {store.root / name.repository / model.file}")
        return 0
    return _pull(hub, store, repository, model, label, args)


def _is_here(model: "RemoteModel", repository: str, store: "Store") -> bool:
    digests = [file.digest for file in model.files]
    known = [stored for stored in store.models(repository) if [file.digest for file in stored.files] == digests]
    return any(stored.file == model.file and stored.is_whole for stored in known)


def _pull(
    hub: "Hub", store: "Store", repository: "Repository", model: "RemoteModel", label: str, args: argparse.Namespace
) -> int:
    from edgellama.models.download import Download

    facts = _facts(hub, repository, model)
    downloads = [Download(hub, repository, file, store) for file in model.files]
    missing_bytes = model.n_bytes - sum(download.present_bytes for download in downloads)
    _print_facts(label, model, facts, missing_bytes)
    if args.dry_run:
        return 0
    problems = _problems(facts, missing_bytes, store)
    if problems and not args.yes and not _is_wanted(problems):
        return 2
    store.create()
    _download(downloads, model.n_bytes)
    stored = _stored(hub, repository, model, store)
    store.add(stored)
    print(f"{stored.path}\nTalk with it: edgellama chat {label}")
    return 0


def _facts(hub: "Hub", repository: "Repository", model: "RemoteModel") -> "ModelFacts":
    from edgellama.commands.memory_speed import read_bytes_per_second
    from edgellama.commands.model_facts import facts_of
    from edgellama.models.remote_header import remote_model

    with remote_model(hub, repository, model) as file:
        return facts_of(file, read_bytes_per_second())


def _print_facts(label: str, model: "RemoteModel", facts: "ModelFacts", missing_bytes: int) -> None:
    from edgellama.commands.model_facts import lines, print_rows

    here = model.n_bytes - missing_bytes
    files = f" in {len(model.files)} files" if len(model.files) > 1 else ""
    kept = f", {size(here)} of it are here" if here else ""
    print(label)
    print_rows([*lines(facts), ("download", f"{size(model.n_bytes)}{files}{kept}")])
    sys.stdout.flush()


def _problems(facts: "ModelFacts", missing_bytes: int, store: "Store") -> list[str]:
    problems = ["this version cannot run it"] if facts.problem else []
    if not facts.fits:
        problems.append(
            f"it needs {size(facts.memory_bytes or 0)} of memory, and {size(facts.available_bytes)} are free"
        )
    free_bytes = system.free_disk_bytes(store.root)
    if missing_bytes > free_bytes:
        problems.append(f"{size(missing_bytes)} are to come, and the disk has room for {size(free_bytes)}")
    return problems


def _is_wanted(problems: list[str]) -> bool:
    """Ask the person at the terminal. Raises EdgellamaError where there is none."""
    sentence = ", and ".join(problems)
    if not system.is_terminal(sys.stdin):
        raise EdgellamaError(f"{sentence}; --yes gets it all the same")
    try:
        answer = input(f"{sentence[0].upper()}{sentence[1:]}. Get it all the same? [y/N] ")
    except EOFError:
        answer = ""
    return answer.strip().lower() in ("y", "yes")


def _download(downloads: "list[Download]", total_bytes: int) -> None:
    from edgellama.commands.download_bar import download_bar

    done_bytes = 0
    try:
        with download_bar(total_bytes) as bar:
            for download in downloads:
                download.run(partial(_show, bar, done_bytes))
                done_bytes += download.file.n_bytes
    except KeyboardInterrupt:
        print("Stopped. What has arrived is kept; the same command goes on from there.", file=sys.stderr)
        raise


def _show(bar: "DownloadBar | None", before_bytes: int, what: str, file_bytes: int) -> None:
    if bar:
        bar.report(what, before_bytes + file_bytes)


def _stored(hub: "Hub", repository: "Repository", model: "RemoteModel", store: "Store") -> "StoredModel":
    from datetime import UTC, datetime

    from edgellama.models.store import StoredFile, StoredModel

    files = tuple(StoredFile(file.path, file.n_bytes, file.digest) for file in model.files)
    pulled = datetime.now(UTC).isoformat(timespec="seconds")
    return StoredModel(repository.name, repository.commit, hub.endpoint, pulled, files, store.root / repository.name)
