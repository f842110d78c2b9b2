"""The options that say how to run a model, the same in every command that loads one."""

import argparse
from typing import TYPE_CHECKING

from edgellama.commands.progress import progress_line

if TYPE_CHECKING:
    from edgellama import Model

_LOAD_OPTIONS = ("device", "gpu_layers", "threads", "context", "kv_type", "repack")


def add_arguments(parser: argparse.ArgumentParser, context: str = "tokens of prompt and answer together") -> None:
    """Arguments left out stay out of the namespace, so that `edgellama.load` alone knows the defaults.

    `context` says what --context means to the command.
    """
    group = parser.add_argument_group("running the model", argument_default=argparse.SUPPRESS)
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (the second GPU) or auto (default: cpu)")
    group.add_argument(
        "--gpu-layers",
        type=not_negative,
        metavar="N",
        help="layers on the GPU, the rest on the CPU (default: all that fit)",
    )
    group.add_argument("-t", "--threads", type=positive, metavar="N", help="worker threads (default: measured)")
    group.add_argument("-c", "--context", type=positive, metavar="N", help=context)
    group.add_argument("--kv-type", choices=("f16", "q8_0", "f32"), help="type of the KV cache (default: f16)")
    group.add_argument(
        "--no-repack",
        dest="repack",
        action="store_false",
        help="compute on the file's own layout: slower, but with half the memory",
    )


def load(args: argparse.Namespace, sequences: int = 0) -> "Model":
    """The model that the arguments name, with a progress line; `sequences` sessions may be opened in it.

    Raises EdgellamaError if it cannot be loaded.
    """
    import edgellama
    from edgellama.errors import EdgellamaError
    from edgellama.memory_offers import MemoryShortageError, as_option

    try:
        with progress_line() as progress:
            options = given(args, _LOAD_OPTIONS)
            return edgellama.load(args.model, progress=progress, sequences=sequences, **options)
    except MemoryShortageError as error:
        raise EdgellamaError(error.text(as_option)) from None


def given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, object]:
    """Those of the named arguments that the command line has."""
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def positive(text: str) -> int:
    """An argument that must be an integer above zero."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def not_negative(text: str) -> int:
    """An argument that must be an integer of at least zero."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be below 0")
    return value


def token_ids(text: str) -> list[int]:
    """An argument like 1,2,3."""
    try:
        ids = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of token ids like 1,2,3") from None
    if not ids or min(ids) < 0:
        raise argparse.ArgumentTypeError("needs at least one id, and none below 0")
    return ids
