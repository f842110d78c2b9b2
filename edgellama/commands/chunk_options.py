"""The options of commands that run a model over a long text, chunk by chunk."""

import argparse
from typing import TYPE_CHECKING

from edgellama.commands import model_options, prompt

if TYPE_CHECKING:
    from edgellama import Model
    from quant.text_chunks import TextChunks

DEFAULT_CONTEXT = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TEXT-FILE, which may be missing, --chunks, and the options of the model."""
    parser.add_argument("text", metavar="TEXT-FILE", nargs="?", help="a long UTF-8 text; - is standard input")
    parser.add_argument("--chunks", type=model_options.positive, metavar="N", help="stop after so many (default: all)")
    model_options.add_arguments(parser, context=f"tokens of a chunk (default: {DEFAULT_CONTEXT})")


def read_text(args: argparse.Namespace) -> str:
    """The text without the newline at its end, which llama.cpp's tools leave out too."""
    return prompt.read_file(args.text).removesuffix("\n")


def load(args: argparse.Namespace, context: int | None = None) -> "Model":
    """The model with room for one chunk: of `context` tokens, or else of as many as --context says."""
    args.context = context or getattr(args, "context", DEFAULT_CONTEXT)
    return model_options.load(args, sequences=1)


def cut_text(args: argparse.Namespace, model: "Model", text: str) -> "TextChunks":
    """The text cut for a model that load() returned. Raises EdgellamaError for a text that is too short."""
    from quant.text_chunks import cut

    return cut(model.tokenizer, text, model.context).first(args.chunks)
