"""Chats as ids, in the form that the chat template gives them, and which of the ids are the model's own words."""

from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor

from .corpus.chats import Message, chats
from .vocabulary import BEGIN, END, ROLES


class Encoder:
    def __init__(self, vocabulary: SentencePieceProcessor):
        self._vocabulary = vocabulary
        self._begin, self._end = vocabulary.piece_to_id(BEGIN), vocabulary.piece_to_id(END)
        self._roles = {role: vocabulary.piece_to_id(mark) for role, mark in ROLES.items()}
        self._new_line = vocabulary.encode("\n")

    def encode(self, chat: list[Message]) -> tuple[list[int], list[bool]]:
        """Ids of a chat; True where the model shall learn to write them."""
        ids, own = [self._begin], [False]
        for message in chat:
            mark = [self._roles[message["role"]], *self._new_line]
            words = [*self._vocabulary.encode(message["content"]), self._end]
            ids += [*mark, *words, *self._new_line]
            own += [False] * len(mark) + [message["role"] == "assistant"] * len(words) + [False]
        return ids, own


def write_data_set(
    target: Path, vocabulary: SentencePieceProcessor, n_tokens: int, seed: int, left_out: frozenset[str]
):
    """Write at least `n_tokens` ids and their marks to the .npz file `target`."""
    encoder = Encoder(vocabulary)
    encoded = (encoder.encode(chat) for chat in chats(seed, left_out))
    ids, own, total = [], [], 0
    for chat_ids, chat_own in encoded:
        ids += chat_ids
        own += chat_own
        total += len(chat_ids)
        if total >= n_tokens:
            break
    partial = target.with_suffix(".partial.npz")
    np.savez(partial, ids=np.array(ids, np.uint16), own=np.array(own, bool))
    partial.rename(target)


def read_data_set(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids, and whether the model shall learn to write them: (n_tokens,) each."""
    with np.load(path) as arrays:
        return arrays["ids"], arrays["own"]
