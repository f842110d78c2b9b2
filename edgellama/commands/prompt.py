"""Where a command's text comes from: the command line, a file, or standard input."""

import argparse
import sys
from pathlib import Path

from edgellama import system
from edgellama.commands import UsageError
from edgellama.errors import EdgellamaError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-p/--prompt and -f/--file; without both, the text is read from standard input."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("-p", "--prompt", metavar="TEXT", help="the text; - reads it from standard input")
    source.add_argument("-f", "--file", metavar="FILE", help="read the text from a UTF-8 file; - is standard input")


def is_given(args: argparse.Namespace) -> bool:
    """Whether the command line names a text, without looking at standard input."""
    return args.prompt is not None or args.file is not None


def read(args: argparse.Namespace) -> str:
    """The text, exactly as it is in its source.

    Raises UsageError if none is named and nothing is piped in, EdgellamaError for a text that cannot be read.
    """
    if args.prompt not in (None, "-"):
        return args.prompt
    if args.file not in (None, "-"):
        return read_file(args.file)
    if not is_given(args) and (sys.stdin is None or system.is_terminal(sys.stdin)):
        raise UsageError("a text is needed: give -p TEXT or -f FILE, or pipe it in")
    return read_file("-")


def read_file(path: str) -> str:
    """The text of a UTF-8 file, or of standard input for "-". Raises EdgellamaError if it cannot be read."""
    if path == "-":
        return _decode(b"" if sys.stdin is None else sys.stdin.buffer.read(), "standard input")
    return _decode(_read_file(path), path)


def without_last_newline(text: str) -> str:
    """What `echo` or an editor put after a prompt is not part of it."""
    return text.removesuffix("\n").removesuffix("\r")


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise EdgellamaError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise EdgellamaError(f"{source} is no UTF-8 text: byte {error.start} is 0x{data[error.start]:02X}") from error
