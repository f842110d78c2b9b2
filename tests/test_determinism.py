"""Bit for bit the same logits: for every thread count, however a prompt is cut, alone or among other sequences."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

import edgellama
from edgellama.model import StepToken

TYPES = ("q4_0", "q8_0", "q4_k_m", "f16", "iq4_xs")
LONG = 700  # tokens: three pages of the cache, two frames
PIECES = (1, 5, 6, 64, 300)


def prompt(n_tokens: int, seed: int = 0, vocabulary: int = 512) -> list[int]:
    return np.random.default_rng(seed).integers(3, vocabulary, n_tokens).tolist()


@contextlib.contextmanager
def loaded(path, **options) -> Iterator[edgellama.Model]:
    with edgellama.load(path, **{"threads": 2, "context": 1024, **options}) as model:
        yield model


def after(session, ids: list[int]) -> list[bytes]:
    """Logits after a prompt and after a few more tokens, as bytes."""
    logits = [session.prefill(ids)]
    logits += [session.decode(token) for token in (5, 400, 77)]
    return [one.tobytes() for one in logits]


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("type_name", TYPES)
def test_thread_counts(synthetic_model, type_name, kv_type):
    ids, found = prompt(600), []
    for threads in (1, 2, 3, 4):
        with loaded(synthetic_model(type_name), threads=threads, kv_type=kv_type) as model:
            found.append(after(model.new_session(), ids))
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("repack", [True, False])
@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("type_name", TYPES)
def test_pieces_of_a_long_prompt(synthetic_model, type_name, kv_type, repack):
    ids, found = prompt(LONG), []
    with loaded(synthetic_model(type_name), kv_type=kv_type, repack=repack) as model, model.new_session() as session:
        for size in (LONG, *PIECES):
            for start in range(0, LONG, size):
                logits = session.prefill(ids[start : start + size])
            found.append([logits.tobytes(), *after(session, [9])])
            session.reset()
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("type_name", TYPES)
def test_logits_of_all_positions_are_those_of_single_steps(synthetic_model, type_name):
    ids = prompt(270)  # past the first page
    with loaded(synthetic_model(type_name)) as model, model.new_session() as session:
        together = model.logits(ids)
        for position, token in enumerate(ids):
            assert session.decode(token).tobytes() == together[position].tobytes(), position


@pytest.mark.parametrize("type_name", TYPES)
def test_sequences_of_one_step_are_as_alone(synthetic_model, type_name):
    prompts = [prompt(n, seed=n) for n in (1, 7, 255, 256, 300)]
    with loaded(synthetic_model(type_name), sequences=len(prompts)) as model:
        sessions = [model.new_session() for _ in prompts]
        for session, ids in zip(sessions, prompts, strict=True):
            session.prefill(ids)
        for token in (11, 12, 13):
            batch = model.step([StepToken(session, token + session.slot) for session in reversed(sessions)])
        for session, logits in zip(reversed(sessions), batch, strict=True):
            assert model.logits(session.ids)[-1].tobytes() == logits.tobytes()


@pytest.mark.parametrize("n_kept", [0, 1, 255, 256, 257, 599])
def test_truncated_and_continued_is_as_fresh(synthetic_model, n_kept):
    ids, other = prompt(600), prompt(300, seed=1)
    with loaded(synthetic_model("q4_k_m")) as model, model.new_session() as session:
        session.prefill(ids)
        session.truncate(n_kept)
        assert session.ids == ids[:n_kept]
        continued = after(session, other)
        session.reset()
        assert after(session, ids[:n_kept] + other) == continued


def test_pages_of_a_closed_session_leave_no_trace(synthetic_model):
    ids = prompt(520)
    with loaded(synthetic_model("q4_0"), sequences=2) as model:
        with model.new_session() as first:
            expected = after(first, ids)
        for seed in (1, 2):  # the pages now go round in another order
            with model.new_session() as busy, model.new_session() as other:
                busy.prefill(prompt(300, seed))
                other.prefill(prompt(600, seed))
        with model.new_session() as again:
            assert after(again, ids) == expected


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 7}, {"seed": 7, "top_k": 0, "repeat_penalty": 1.3}])
def test_one_seed_one_text(synthetic_model, options):
    texts = set()
    for threads in (1, 2, 3):
        with loaded(synthetic_model("q4_k_m"), threads=threads) as model:
            for _ in range(2):
                texts.add("".join(model.generate([1, 20, 30], 40, **options)))
    assert len(texts) == 1


def test_other_seeds_other_texts(synthetic_model):
    with loaded(synthetic_model("q4_k_m")) as model:
        texts = {"".join(model.generate([1, 20], 40, seed=seed)) for seed in range(3)}
        assert len(texts) == 3
        seeds = set()
        for _ in range(2):
            list(model.generate([1], 1))
            seeds.add(model.last_stats.seed)
        assert len(seeds) == 2


def test_fewer_workers_than_threads(synthetic_model):
    """The machine takes workers away while others use the cores; logits must not show it."""
    ids, found = prompt(300), []
    with loaded(synthetic_model("q4_k_m"), threads=4) as model, model.new_session() as session:
        for count in (4, 1, 3, 2):
            model.machine.worker_count.current = count
            found.append(session.prefill(ids).tobytes())
            session.reset()
    assert len(set(found)) == 1


@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_K_M"])
def test_pieces_where_rows_are_no_whole_blocks(shared_data, type_name):
    """A real model with narrow heads whose feed-forward rows (172 values) are stored as F16."""
    path = shared_data / "quantized" / "stories260K" / f"{type_name}.gguf"
    ids, found = prompt(400), []
    for threads, size in ((1, 400), (2, 1), (3, 5), (2, 64), (4, 300)):
        with loaded(path, threads=threads, context=512) as model, model.new_session() as session:
            for start in range(0, len(ids), size):
                logits = session.prefill(ids[start : start + size])
            found.append(logits.tobytes())
    assert len(set(found)) == 1
