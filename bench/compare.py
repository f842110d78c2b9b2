"""`python -m bench compare MODEL`: the project's own figures beside llama.cpp, as its documents give them.

The measuring is `edgellama bench MODEL --vs llama.cpp`; this names the variants of the documents' tables.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def command_line(arguments: argparse.Namespace) -> list[str]:
    """The arguments of `edgellama`."""
    sizes = {
        "--n-prompt": [arguments.prefill],
        "--n-gen": [arguments.decode],
        "--n-depth": arguments.depth,
        "--sequences": [1, arguments.batch],
        "--threads": [arguments.threads],
        "--repetitions": [arguments.rounds],
    }
    options = [text for name, values in sizes.items() for text in (name, ",".join(map(str, values)))]
    python = ["--peer-python", arguments.peer_python] if arguments.peer_python else []
    save = ["--save", str(arguments.json)] if arguments.json else []
    return ["bench", str(arguments.model), "--vs", "llama.cpp", *options, *python, *save]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512, metavar="TOKENS")
    parser.add_argument("--decode", type=int, default=64, metavar="TOKENS")
    parser.add_argument("--batch", type=int, default=4, metavar="SEQUENCES")
    parser.add_argument("--depth", type=int, nargs="+", default=[0, 8192], help="cache depths to measure at")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-python", metavar="PATH", help="the Python that has llama-cpp-python")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the record")


def main(arguments: argparse.Namespace) -> int:
    return subprocess.call([sys.executable, "-m", "edgellama", *command_line(arguments)])
