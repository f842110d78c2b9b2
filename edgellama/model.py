"""A loaded model: its program bound to this machine, its tokenizer, and the lock under which steps run."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import arch
from .arch.spec import check_tensors
from .cache_layout import KV_TYPES
from .config import ModelConfig
from .device import MOST_THREADS
from .errors import EdgellamaError
from .frame import PAGE_POSITIONS, Frame
from .gguf import open_gguf
from .kv_cache import PageTable
from .program import Builder

if TYPE_CHECKING:
    from .session import GenerationStats, Session
    from .tokenizer import Tokenizer

MAX_TOKENS, MAX_ROWS = 512, 64  # tokens of one step, and rows of logits it can return
MOST_CONTEXT = 1 << 24
DEFAULT_CONTEXT = 4096  # positions, if the model knows more and the caller asks for nothing


@dataclass(frozen=True)
class StepToken:
    """One token of a step of several sequences: its session decides slot and position."""

    session: "Session"
    token_id: int


class Model:
    """Made by load(). Safe to call from several threads: steps are served one after the other.

    `config` holds the model's numbers, `context` the positions of each sequence, `last_stats` the speed of the last
    generate(). Close it, or use it as a context manager, to end its threads and free its memory.
    """

    def __init__(
        self, path: str | os.PathLike[str], threads: int | None, context: int | None, kv_type: str, repack: bool,
        sequences: int, progress: Callable[[str, int, int], None] | None,
    ):  # fmt: skip
        self._lock = threading.RLock()
        self.file = open_gguf(path)
        try:
            self._build(threads, context, kv_type, repack, sequences, progress)
        except BaseException:
            self.file.close()
            raise
        self._tokenizer: Tokenizer | None = None
        self._own_session: Session | None = None
        self.last_stats: GenerationStats | None = None

    def _build(self, threads, context, kv_type, repack, sequences, progress) -> None:
        from .cpu.machine import CpuMachine, partial_bytes
        from .cpu.packing import LAYOUTS

        family = arch.find(self.file.get("general.architecture", str))
        self.config = ModelConfig.from_gguf(self.file, self._vocabulary())
        check_tensors(self.file, self.config, family.TENSORS)
        self.context = self._choose_context(context)
        packed = frozenset(LAYOUTS) if repack else frozenset()
        builder = Builder(self.file.tensors, partial_bytes(self.config, self.context), packed, kv_type)
        program = family.build(builder, self.config, self.context)
        n_pages = -(-self.context // PAGE_POSITIONS)
        self.frame = Frame(MAX_TOKENS, MAX_ROWS, self.config.vocab_size, sequences, n_pages)
        self.pages = PageTable(self.frame, sequences * n_pages)
        self._free_slots = list(range(sequences - 1, -1, -1))
        packing = progress and (lambda done, total: progress("packing weights", done, total))
        kernels = _load_kernels(progress)
        self.machine = CpuMachine(kernels, program, self.frame, sequences * n_pages, threads, packing)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker threads and close the file; the model cannot be used after."""
        with self._lock:
            if self.machine is not None:
                self.machine.close()
                self.machine = None
                self.file.close()

    @property
    def tokenizer(self) -> "Tokenizer":
        """The file's tokenizer, made on first use."""
        if self._tokenizer is None:
            from .tokenizer import from_gguf

            self._tokenizer = from_gguf(self.file)
        return self._tokenizer

    def tokenize(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of a text, with the beginning-of-sequence token if the model wants one."""
        return self.tokenizer.encode(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(list(ids))

    def new_session(self) -> "Session":
        """A sequence of its own in the cache. Raises EdgellamaError when all `sequences` of load() are in use."""
        from .session import Session

        with self._lock:
            if self.machine is None:
                raise EdgellamaError("this model is closed")
            if not self._free_slots:
                raise EdgellamaError("all sequences are in use: close a session, or load with more `sequences`")
            return Session(self, self._free_slots.pop())

    def release_slot(self, slot: int) -> None:
        """Take back the pages of a closed session."""
        with self._lock:
            self.pages.truncate(slot, 0)
            self._free_slots.append(slot)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """float32 (n_tokens, vocab): for every position the logits of what follows it."""
        with self._idle_session() as session:
            return session.logits(ids)

    def step(self, batch: Sequence[StepToken]) -> np.ndarray:
        """One token each of several sessions in one frame; float32 (len(batch), vocab), a copy."""
        sessions = [token.session for token in batch]
        if len(set(map(id, sessions))) != len(sessions):
            raise EdgellamaError("a step takes at most one token of each session")
        with self._lock:
            for session in sessions:
                if session.model is not self:
                    raise EdgellamaError("a step takes sessions of its own model only")
                session.check_room(1)
            positions = [session.n_tokens for session in sessions]
            slots = [session.slot for session in sessions]
            ids = [token.token_id for token in batch]
            logits = self.run_frame(ids, positions, slots, range(len(batch))).copy()
            for token in batch:
                token.session.ids.append(int(token.token_id))
        return logits

    def run_frame(self, ids, positions, slots, rows) -> np.ndarray:
        """Check, reserve and run one frame; float32 (n_rows, vocab), valid until the next. Call it under the lock."""
        if self.machine is None:
            raise EdgellamaError("this model is closed")
        for slot in set(slots):
            last = max(position for position, own in zip(positions, slots, strict=True) if own == slot)
            self.pages.reserve(slot, last + 1)
        self.frame.fill(_integers(ids), _integers(positions), _integers(slots), _integers(rows))
        return self.machine.run()

    @property
    def lock(self) -> threading.RLock:
        """Held for the length of a step."""
        return self._lock

    def generate(self, prompt: str | Sequence[int], max_tokens: int = 256, **options) -> Iterator[str]:
        """Text pieces as they are decoded, starting a new sequence; ends at the model's end token or max_tokens.

        `options` are the fields of SampleOptions (temperature, top_k, top_p, min_p, repeat_penalty, seed, …).
        """
        with self._idle_session() as session:
            try:
                yield from session.generate(prompt, max_tokens, **options)
            finally:  # also when the caller stops early
                self.last_stats = session.stats

    @contextmanager
    def _idle_session(self) -> "Iterator[Session]":
        """The model's own sequence, empty; while another generate() is using that, one of `sequences`."""
        with self._lock:
            session = self._own_session or self.new_session()
            self._own_session = None
        try:
            session.reset()
            yield session
        finally:
            with self._lock:
                if self._own_session is None:
                    self._own_session = session
                else:
                    session.close()

    def _vocabulary(self) -> int | None:
        embedding = self.file.tensors.get("token_embd.weight")
        return embedding.shape[0] if embedding is not None and len(embedding.shape) == 2 else None

    def _choose_context(self, context: int | None) -> int:
        most = self.config.context_length
        if context is None:
            return min(most, DEFAULT_CONTEXT)
        if context > most:
            raise EdgellamaError(f"the context must be 1 to {most} positions for this model, and is {context}")
        return context


def load(
    path: str | os.PathLike[str], device: str = "cpu", threads: int | None = None, context: int | None = None,
    kv_type: str = "f16", repack: bool = True, sequences: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Model:  # fmt: skip
    """Load a GGUF model.

    `threads`: worker threads (default: measured or known best for this device). `context`: positions per sequence
    (default: the model's, at most 4096). `kv_type`: "f16", "q8_0" or "f32". `repack=False` computes from the mapped
    file: slower, but needs no memory for weights. `sequences`: how many sessions may be open besides the model's own.
    `progress(what, done, total)` is told about long work. Raises EdgellamaError for anything that cannot be loaded.
    """
    if device != "cpu":
        raise EdgellamaError(f"device must be 'cpu', and is {device!r}")
    if kv_type not in KV_TYPES:
        raise EdgellamaError(f"kv_type must be one of {', '.join(KV_TYPES)}, and is {kv_type!r}")
    _check_count("threads", threads, MOST_THREADS, may_be_none=True)
    _check_count("context", context, MOST_CONTEXT, may_be_none=True)
    _check_count("sequences", sequences, 256)
    return Model(path, threads, context, kv_type, repack, sequences + 1, progress)


def _check_count(name: str, value: object, most: int, may_be_none: bool = False) -> None:
    if value is None and may_be_none:
        return
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 1 <= value <= most:
        raise EdgellamaError(f"{name} must be an integer from 1 to {most}, and is {value!r}")


def _load_kernels(progress: Callable[[str, int, int], None] | None):
    from .compiler import load_kernels

    return load_kernels(progress and (lambda done, total: progress("compiling kernels", done, total)))


def _integers(values) -> np.ndarray:
    """An array whose dtype tells integers from the rest; frame.fill refuses the rest."""
    array = np.asarray(values)
    return array.astype(np.int64) if array.size == 0 else array
