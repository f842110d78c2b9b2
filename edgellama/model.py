"""A loaded model: its program bound to this machine, its tokenizer, and the lock under which steps run."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arch, machines
from .arch.spec import check_tensors
from .config import ModelConfig
from .errors import EdgellamaError, ModelError
from .fair_lock import FairLock
from .fp8 import join_scales
from .frame import FEW_ROWS, MAX_ROWS, PAGE_POSITIONS, Frame
from .gguf import GGUFFile, open_gguf
from .kv_cache import PageTable, page_bytes
from .memory_needs import LoadOptions
from .memory_offers import is_out_of_memory
from .models.names import size
from .prefix import Layout
from .program import Builder, Program
from .slots import Slots

if TYPE_CHECKING:
    from .chat.completion import Completion
    from .chat.conversation import ChatAnswer, Message
    from .generation import Answer, GenerationStats
    from .sampling import SampleOptions, Sampler
    from .session import Session
    from .tokenizer import Tokenizer

DEFAULT_CONTEXT = 4096  # positions, if the model knows more and the caller asks for nothing


@dataclass(frozen=True)
class StepToken:
    """One token of a step of several sequences: its session decides slot and position."""

    session: "Session"
    token_id: int


def recognise(file: GGUFFile) -> tuple[ModuleType, ModelConfig]:
    """The family and the numbers of a model; looks at keys, shapes and types only, but for the scales of FP8 weights.

    Raises ModelError for a file that this version cannot run.
    """
    join_scales(file)
    if file.get("general.architecture", str) == "clip" or file.get("general.type", str, "model") == "mmproj":
        raise ModelError(f"{file.path}: is the part of a model that sees pictures, and only models of text run")
    family = arch.find(file.get("general.architecture", str))
    embedding = file.tensors.get("token_embd.weight")
    n_words = embedding.shape[0] if embedding is not None and len(embedding.shape) == 2 else None
    config = ModelConfig.from_gguf(file, n_words)
    check_tensors(file, config, family.TENSORS)
    return family, config


def default_context(config: ModelConfig) -> int:
    """Positions of a load that asks for no number of them."""
    return min(config.context_length, DEFAULT_CONTEXT)


class Model:
    """Made by edgellama.load(). Safe to call from several threads: steps are served one after the other.

    `config` holds the model's numbers, `context` the positions of each sequence, `memory` what it may take at most,
    `last_stats` the speed of the last generate(). Close it, or use it as a context manager, to end its threads and free
    its memory.
    """

    def __init__(
        self, path: str | os.PathLike[str], request: machines.Request, context: int | None, kv_type: str,
        sequences: int, progress: Callable[[str, int, int], None] | None,
    ):  # fmt: skip
        self._lock = FairLock()
        self._running_slots: frozenset[int] = frozenset()  # whose step the machine is in
        self.file = open_gguf(path)
        try:
            self._build(request, context, kv_type, sequences, progress)
        except BaseException as error:
            self.file.close()
            if is_out_of_memory(error):
                raise EdgellamaError(f"{path}: the system has no memory left for it") from error
            raise
        self.kv_type = kv_type
        self._tokenizer: Tokenizer | None = None
        self.last_answer: Answer | None = None

    def _build(self, request, context, kv_type, sequences, progress) -> None:
        kind = machines.find(request.device)
        if kv_type not in kind.kv_types:
            raise EdgellamaError(f"on this device the KV cache is {kind.kv_types[0]}; {kv_type} needs --device cpu")
        family, self.config = recognise(self.file)
        self.context = self._choose_context(context)
        options = LoadOptions(self.context, kv_type, request.repack, sequences, request.threads)
        self.memory = kind.check_fit(self.file, family, self.config, options)

        def write(packed: frozenset[str], partial_bytes: int) -> Program:
            builder = Builder(self.file.tensors, partial_bytes, packed, kv_type)
            return family.build(builder, self.config, self.context)

        n_pages = -(-self.context // PAGE_POSITIONS)
        rule_of = getattr(family, "prefix_rule", None)  # of families whose prompts see themselves as a whole
        self.prefix_rule = rule_of(self.config) if rule_of else None
        sizes = (self.context, self.context) if self.prefix_rule else (kind.max_tokens, MAX_ROWS)
        self.frame = Frame(*sizes, self.config.vocab_size, sequences, n_pages)
        self.pages = PageTable(self.frame, sequences * n_pages)
        self.slots = Slots(self, sequences - 1)
        what = f"{kind.loading}, {size(self.memory.total_bytes)} of memory in all" if self.memory else kind.loading
        loading = progress and (lambda done, total: progress(what, done, total))
        kernels = _load_kernels(progress)
        self.machine = kind.make(
            request, write, kernels, self.frame, sequences * n_pages, self.config, self.context, loading
        )

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

    @cached_property
    def digest(self) -> str:
        """Tells this model from others, in hexadecimal; for files that belong to it."""
        from .session_file import model_digest

        return model_digest(self)

    @property
    def last_stats(self) -> "GenerationStats | None":
        """Of the last answer that began."""
        return self.last_answer.stats if self.last_answer else None

    @property
    def page_bytes(self) -> int:
        """Bytes of PAGE_POSITIONS positions of the cache, all layers."""
        return self.machine.program.n_layers * sum(page_bytes(self.machine.program.attention))

    def new_sampler(self, options: "SampleOptions") -> "Sampler":
        """A sampler for this model's logits."""
        from .sampling import KernelScan, Sampler

        self._check_open()
        return Sampler(options, self.config.vocab_size, KernelScan(self.machine.kernels), self.tokenizer)

    def new_session(self) -> "Session":
        """A sequence of its own in the cache. Raises EdgellamaError when all `sequences` of load() are in use."""
        with self._lock:
            self._check_open()
            return self.slots.open()

    def release_slot(self, slot: int) -> None:
        """Take back the place of a closed session."""
        with self._lock:
            self.slots.release(slot)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """float32 (n_tokens, vocab): for every position the logits of what follows it."""
        with self.slots.borrow(ids) as session:
            session.reset()
            return session.logits(ids)

    def embed(self, texts: str | Sequence[str], pooling: str = "mean", normalize: bool = True) -> np.ndarray:
        """A vector for a text, float32 (d_model,), or for each of several, (n_texts, d_model).

        `pooling`: "mean" of all tokens' hidden states after the last norm, or the "last" token's. `normalize`: to
        length 1.
        """
        from .embedding import embed

        return embed(self, texts, pooling, normalize)

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
            layout = self._layout_of_step(sessions, ids)
            logits = self.run_frame(ids, positions, slots, range(len(batch)), layout=layout).copy()
            for token in batch:
                token.session.ids.append(int(token.token_id))
        return logits

    def _layout_of_step(self, sessions: Sequence["Session"], ids: Sequence[int]) -> Layout | None:
        if self.prefix_rule is None:
            return None
        rule = self.prefix_rule
        parts = [rule.layout(session.ids, [token_id]) for session, token_id in zip(sessions, ids, strict=True)]
        return Layout(*map(np.concatenate, zip(*parts, strict=True)))

    def run_frame(
        self, ids, positions, slots, rows, check: Callable[[], None] | None = None, hidden: bool = False,
        layout: Layout | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Check, reserve and run one frame; valid until the next. Call it under the lock.

        float32 (n_rows, vocab), or with `hidden` (n_rows, d_model): what the output matrix is applied to.
        After interrupt(), `check` decides: the step is repeated unless it raises.
        """
        n_rows = len(rows)
        if hidden:  # for a few rows each worker norms for itself, and the result is in no common place
            rows = [*rows, *[0] * max(0, FEW_ROWS + 1 - n_rows)]
        self._fill_frame(ids, positions, slots, rows, layout)
        return self._repeat(self.machine.run_hidden if hidden else self.machine.run, slots, check)[:n_rows]

    @property
    def chooses(self) -> bool:
        """Whether the machine can choose the likeliest token itself: run_likeliest()."""
        return self.prefix_rule is None and hasattr(self.machine, "run_likeliest")

    def run_likeliest(self, token_id: int, position: int, slot: int, check: Callable[[], None] | None = None) -> int:
        """Run one token; the likeliest after it. Call it under the lock. `check` as for run_frame()."""
        self._fill_frame([token_id], [position], [slot], [0])
        return self._repeat(self.machine.run_likeliest, [slot], check)

    def _fill_frame(self, ids, positions, slots, rows, layout: Layout | None = None) -> None:
        """Reserve the cache's pages and check everything."""
        self._check_open()
        for slot in set(slots):
            last = max(position for position, own in zip(positions, slots, strict=True) if own == slot)
            self.pages.reserve(slot, last + 1)
        self.frame.fill(_integers(ids), _integers(positions), _integers(slots), _integers(rows), layout)

    def _repeat(self, run: Callable[[], Any], slots, check: Callable[[], None] | None) -> Any:
        """The result of a run, which is repeated when it was interrupted, unless `check` raises."""
        self._running_slots = frozenset(slots)
        try:
            while (result := run()) is None:
                if check:
                    check()
        finally:
            self._running_slots = frozenset()
        return result

    def _check_open(self) -> None:
        if self.machine is None:
            raise EdgellamaError("this model is closed")

    def interrupt(self, slot: int) -> None:
        """Ask the step of this slot, if one is running, to end early; from any thread."""
        machine = self.machine
        if machine is not None and slot in self._running_slots:
            machine.cancel()

    @property
    def lock(self) -> FairLock:
        """Held for the length of a step; waiting threads are served in order."""
        return self._lock

    def generate(self, prompt: str | Sequence[int], max_tokens: int | None = 256, **options) -> "Answer":
        """What the model says after a prompt, as text pieces while they are decoded; see Answer for the rest.

        `max_tokens`: None for as many as the context holds. `stop`: one or more strings that end the answer.
        `json_schema`, `grammar` (GBNF) or `regex`: what the text must be. `logprobs`: how many of the likeliest
        tokens to note with each. `on_full`: "stop" or "shift" when the context is full. All other options are fields
        of SampleOptions (temperature, top_k, top_p, min_p, repeat_penalty, seed, ...).

        What the cache still has of the prompt's beginning is not evaluated again.
        """
        from .generation import Answer

        ids = self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        return Answer(self, self.slots.borrow(ids), ids, max_tokens=max_tokens, **options)

    def chat(
        self, messages: "Sequence[Message]", *, tools: Sequence[dict[str, Any]] = (), template: str | None = None,
        on_full: str = "stop", **options: Any,
    ) -> "ChatAnswer":  # fmt: skip
        """What the model answers to messages in OpenAI's shape ({"role": "user", "content": "..."}, ...).

        `tools`: functions that it may ask for, in OpenAI's shape; what it asks for is in the answer's `tool_calls`.
        `template`: a built-in's name or a Jinja file, in place of the model's own. `on_full`: "stop" with an error,
        or "shift": leave the oldest turns out. `options`: as for generate(). See Conversation for a chat that keeps
        its messages.
        """
        from .chat.conversation import Conversation

        return Conversation(self, messages, tools=tools, template=template, on_full=on_full).answer(**options)

    def create_chat_completion(self, messages: "Sequence[Message]", **options: Any) -> "Completion":
        """As llama-cpp-python's method of that name: a dict, or with stream=True an iterator of dicts."""
        from .chat.completion import create_chat_completion

        return create_chat_completion(self, messages, **options)

    def create_completion(self, prompt: str | Sequence[int], **options: Any) -> "Completion":
        """As llama-cpp-python's method of that name: a dict, or with stream=True an iterator of dicts."""
        from .chat.completion import create_completion

        return create_completion(self, prompt, **options)

    def _choose_context(self, context: int | None) -> int:
        most = self.config.context_length
        if context is None:
            return default_context(self.config)
        if context > most:
            raise EdgellamaError(f"the context must be 1 to {most} positions for this model, and is {context}")
        return context


def _load_kernels(progress: Callable[[str, int, int], None] | None):
    from .compiler import load_kernels

    return load_kernels(progress and (lambda done, total: progress("compiling kernels", done, total)))


def _integers(values) -> np.ndarray:
    """An array whose dtype tells integers from the rest; frame.fill refuses the rest."""
    array = np.asarray(values)
    return array.astype(np.int64) if array.size == 0 else array
