"""The tokenizer: SentencePiece BPE with bytes for what no piece has, and one piece for each mark of the chat."""

import io
from itertools import islice
from pathlib import Path

import sentencepiece

from .corpus.chats import chats

BEGIN, END = "<s>", "<|end|>"
ROLES = {role: f"<|{role}|>" for role in ("system", "user", "assistant")}
_N_CHATS = 12_000
_SEED = 1


def train_vocabulary(target: Path, size: int) -> None:
    """Write a SentencePiece model of `size` pieces, learned from chats, to `target`."""
    texts = [message["content"] for chat in islice(chats(_SEED, frozenset()), _N_CHATS) for message in chat]
    lines = [line for text in texts for line in text.split("\n")]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,  # a text begins the same way after a mark and in the middle of a file
        allow_whitespace_only_pieces=True,
        bos_piece=BEGIN,
        eos_piece=END,
        control_symbols=list(ROLES.values()),
        num_threads=1,
        minloglevel=2,
    )
    target.write_bytes(model.getvalue())


def open_vocabulary(path: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
