"""The `edgellama` command: finds the module of a subcommand, runs it, and turns what went wrong into an exit code.

Only the module of the subcommand that was asked for is imported, and command modules import the runtime inside
their functions, so that every `--help` is instant.

Exit codes: 0 done, 1 the system or the network failed (a full disk, say), 2 wrong input: arguments, files or texts that
do not work, 130 stopped by Ctrl-C, 141 nobody read the output. Stderr explains 1 and 2 in one sentence.
"""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import edgellama
from edgellama.commands import UsageError
from edgellama.errors import EdgellamaError

COMMANDS = {
    "bench": ("edgellama.commands.bench", "measure how fast a model runs on this device"),
    "bench compare": ("edgellama.commands.bench_compare", "show saved benchmark records side by side"),
    "bench report": ("edgellama.commands.bench_report", "make a page or plots of saved benchmark records"),
    "chat": ("edgellama.commands.chat", "talk with a model"),
    "convert": ("edgellama.commands.convert", "make a GGUF file of a checkpoint"),
    "doctor": ("edgellama.commands.doctor", "check the installation and this machine, for a bug report"),
    "generate": ("edgellama.commands.generate", "continue a text"),
    "imatrix": ("edgellama.commands.imatrix", "sum up which weights a text makes matter, for quantizing"),
    "inspect": ("edgellama.commands.inspect", "show what is in a model file and the memory it needs"),
    "list": ("edgellama.commands.list", "list the models that were pulled"),
    "logits": ("edgellama.commands.logits", "write the logits of every position of a text to a .npy file"),
    "perplexity": (
        "edgellama.commands.perplexity",
        "measure how well a model predicts a text",
    ),
    "pull": ("edgellama.commands.pull", "get a model from the Hugging Face hub"),
    "quantize": ("edgellama.commands.quantize", "make a smaller GGUF file of a model"),
    "rm": ("edgellama.commands.rm", "remove a model that was pulled"),
    "show": ("edgellama.commands.show", "show what is known of a model that was pulled"),
    "tokenize": ("edgellama.commands.tokenize", "show the tokens of a text"),
}

_FAILED, _WRONG_INPUT, _INTERRUPTED, _BROKEN_PIPE = 1, 2, 130, 141  # the last two are 128 + signal number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Raises SystemExit after --help and for wrong usage only."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _never_fail_on_characters()
    try:
        code = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return _BROKEN_PIPE
    except EdgellamaError as error:
        return _report(str(error), _WRONG_INPUT)
    except OSError as error:
        sentence = (
            f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error.strerror or str(error)
        )
        return _report(sentence, _WRONG_INPUT if isinstance(error, FileNotFoundError) else _FAILED)


def _run(arguments: list[str]) -> int:
    if " ".join(arguments[:2]) in COMMANDS:  # a command of two words
        arguments = [" ".join(arguments[:2]), *arguments[2:]]
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    parser, chosen_parser = _parsers(chosen)
    if not arguments:
        parser.print_help(sys.stderr)
        return _WRONG_INPUT
    options = parser.parse_args(arguments)
    try:
        return importlib.import_module(COMMANDS[options.command][0]).main(options)
    except UsageError as error:
        (chosen_parser or parser).error(str(error))


class _Parser(argparse.ArgumentParser):
    """Explains wrong arguments in one sentence; argparse itself would print all options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(_WRONG_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parsers(chosen: str | None) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser | None]:
    """The parser of the whole command line and that of the chosen command; the others know no arguments."""
    parser = _Parser(
        "edgellama", description="Run quantized language models from GGUF files.", formatter_class=_OneLineEach
    )
    parser.add_argument("--version", action="version", version=f"edgellama {edgellama.__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    chosen_parser = None
    for name, (module, help_line) in COMMANDS.items():
        command = commands.add_parser(name, help=help_line, description=_sentence(help_line))
        if name == chosen:
            importlib.import_module(module).add_arguments(command)
            chosen_parser = command
    return parser, chosen_parser


class _OneLineEach(argparse.HelpFormatter):
    """Help whose column leaves room for the longest name of a command, which is indented by four."""

    def __init__(self, prog: str):
        super().__init__(prog)
        self._action_max_length = 4 + max(map(len, COMMANDS))


def _sentence(help_line: str) -> str:
    return f"{help_line[0].upper()}{help_line[1:]}."


def _report(problem: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"edgellama: error: {problem}", file=sys.stderr)
    return code


def _never_fail_on_characters() -> None:
    """A model may write any character, a terminal may lack it: print a question mark then, and go on."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not complain at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
