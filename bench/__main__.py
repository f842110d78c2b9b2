"""`python -m bench NAME …`: one module per measurement, imported only when asked for."""

from __future__ import annotations

import argparse
import importlib
import sys

from edgellama.errors import EdgellamaError

COMMANDS = {
    "synthesize": "write a GGUF model of a real shape with random weights",
    "peer": "measure llama.cpp alone on a GGUF file",
    "compare": "measure edgellama and llama.cpp on the same file, interleaved",
    "limits": "measure memory bandwidth and arithmetic peaks of this machine",
    "startup": "time from process start to the first token",
    "memory": "peak memory of a load and a few tokens",
    "sampling": "what choosing a token costs, for common options",
    "disturbed": "decode speed beside a busy process",
    "quantize-speed": "time quantizing a model, edgellama and llama.cpp in turns",
    "perturb": "how firm a model's greedy text is under changes of one unit in the last place",
    "report": "make a page or plots of saved benchmark records",
    "quality-plot": "draw the sizes of a model's quantized files against their divergence from the original",
}
MODULES = {
    "peer": "peer_llamacpp",
    "report": "report_files",
    "quality-plot": "quality_plot",
    "quantize-speed": "quantize_speed",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f".{MODULES.get(name, name)}", __package__)
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    return arguments.main(arguments)


def run() -> int:
    """The program: what went wrong is one sentence, and exit code 2 for wrong input as everywhere."""
    try:
        return main()
    except (EdgellamaError, OSError) as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, EdgellamaError | FileNotFoundError) else 1


if __name__ == "__main__":
    sys.exit(run())
