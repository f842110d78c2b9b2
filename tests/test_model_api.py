"""What load(), Model and Session promise: an app's view of a small model of random weights."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from model_files import relative_rms, with_metadata

import edgellama
from edgellama.errors import EdgellamaError
from edgellama.model import StepToken
from edgellama.models.names import size

CONTEXT = 600
IDS = [1, 20, 30, 40, 50]


@pytest.fixture(scope="module")
def path(synthetic_model) -> Path:
    return synthetic_model("q4_k_m")


@pytest.fixture
def model(path):
    with edgellama.load(path, threads=2, context=CONTEXT, sequences=4) as model:
        yield model


@pytest.fixture(scope="module")
def expected(path) -> np.ndarray:
    """The logits of IDS, by a model that did nothing else."""
    with edgellama.load(path, threads=1) as model:
        return model.logits(IDS)


def greedy(source, prompt, n_tokens: int = 12) -> list[int]:
    """Ids that a model or a session generates."""
    for _ in source.generate(prompt, n_tokens, temperature=0):
        pass
    return (source.last_stats if hasattr(source, "last_stats") else source.stats).ids


# Text and logits


def test_text_to_ids_and_back(model):
    ids = model.tokenize("Once upon")
    assert ids[0] == model.tokenizer.bos_id
    assert model.tokenize("Once upon", add_special=False) == ids[1:]
    assert model.detokenize(ids[1:]) == "Once upon"
    assert model.detokenize(np.array(ids[1:])) == "Once upon"


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda ids: np.array(ids, np.uint16), iter])
def test_ids_in_any_form(model, expected, kind):
    if kind is iter:
        with pytest.raises(TypeError):  # a sequence has a length
            model.logits(kind(IDS))
        return
    np.testing.assert_array_equal(model.logits(kind(IDS)), expected)


def test_logits_are_the_callers_own(model, expected):
    first = model.logits(IDS)
    model.logits([3, 4, 5, 6, 7])
    np.testing.assert_array_equal(first, expected)
    assert first.dtype == np.float32
    with model.new_session() as session:
        after_prefill, after_decode = session.prefill(IDS[:-1]), session.decode(IDS[-1])
        session.decode(9)
    np.testing.assert_array_equal([after_prefill, after_decode], expected[-2:])


def test_layouts_agree(path, expected):
    with edgellama.load(path, repack=False) as model:
        assert relative_rms(model.logits(IDS), expected) < 0.03


# Generation


def test_generate_text_and_figures(model):
    pieces = list(model.generate("Once upon", 20, temperature=0))
    stats = model.last_stats
    stream = model.tokenizer.stream()
    assert "".join(pieces) == "".join([*map(stream.push, stats.ids), stream.finish()])
    assert stats.prompt_tokens == len(model.tokenize("Once upon"))
    assert stats.generated_tokens == len(stats.ids) <= 20
    assert stats.prompt_seconds > 0
    assert stats.generate_seconds > 0
    assert list(model.generate(model.tokenize("Once upon"), 20, temperature=0)) == pieces


@pytest.mark.parametrize("max_tokens", [0, 1, 2, 7])
def test_generate_so_many_tokens(model, max_tokens):
    assert len(greedy(model, IDS, max_tokens)) == max_tokens


def test_generate_tells_its_seed(model):
    first = list(model.generate(IDS, 20))
    assert list(model.generate(IDS, 20, seed=model.last_stats.seed)) == first


def test_generate_stops_at_the_end_token(model, path, tmp_path):
    ids = greedy(model, IDS)
    end = ids[5]
    other = with_metadata(path, tmp_path / "end.gguf", tokenizer__ggml__eos_token_id=end)
    with edgellama.load(other) as stopping:
        assert greedy(stopping, IDS) == ids[: ids.index(end)]


def test_generate_fills_the_context_and_no_more(model):
    prompt = np.random.default_rng(0).integers(3, 500, CONTEXT - 3).tolist()
    assert len(greedy(model, prompt, 50)) == 4  # three fit behind the prompt, and one is chosen after the last
    assert len(greedy(model, [*prompt, 4, 5, 6], 50)) == 1
    with model.new_session() as session:
        session.prefill(prompt)
        for token in (1, 2, 3):
            session.decode(token)
        with pytest.raises(EdgellamaError, match="do not fit into the context of 600"):
            session.decode(4)
        with pytest.raises(EdgellamaError, match="do not fit into the context of 600"):
            model.step([StepToken(session, 4)])
        assert session.n_tokens == CONTEXT


def test_empty_prompt(path, tmp_path, model):
    assert model.tokenize("") == [model.tokenizer.bos_id]
    assert len(greedy(model, "")) == 12
    silent = with_metadata(path, tmp_path / "silent.gguf", tokenizer__ggml__add_bos_token=False)
    with edgellama.load(silent) as other, pytest.raises(EdgellamaError, match="at least one token"):
        list(other.generate(""))


def test_stopping_early_keeps_the_figures(model):
    source = model.generate(IDS, 100, temperature=0)
    next(source)
    source.close()
    assert 1 <= model.last_stats.generated_tokens < 100
    assert len(greedy(model, IDS)) == 12


# Sessions


def test_chat_continues(model):
    with model.new_session() as session:
        first = greedy(session, IDS, 6)
        assert session.ids == [*IDS, *first[:-1]]  # the last one is chosen, and in no cache yet
        second = greedy(session, [first[-1], 60], 6)
        assert second == greedy(model, [*IDS, *first, 60], 6)


def test_generations_that_overlap_do_not_meet(model):
    expected_ids = [greedy(model, [1, token]) for token in (20, 30)]
    both = [model.generate([1, token], 12, temperature=0) for token in (20, 30)]
    texts = ["", ""]
    for pieces in zip(*both, strict=False):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
        model.logits(IDS)
    for text, ids in zip(texts, expected_ids, strict=True):
        stream = model.tokenizer.stream()
        assert "".join(map(stream.push, ids)).startswith(text)
        assert text


def test_threads_with_their_own_sessions(model):
    prompts = [[1, token, token + 1] for token in (20, 40, 60, 80)]
    alone = [greedy(model, prompt, 30) for prompt in prompts]

    def tell(prompt):
        with model.new_session() as session:
            return greedy(session, prompt, 30)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tell, prompts)) == alone


def test_threads_that_share_the_models_own_sequence(model):
    prompts = [np.random.default_rng(seed).integers(3, 500, 150).tolist() for seed in range(3)]
    alone = [model.logits(prompt) for prompt in prompts]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            for logits, expected_logits in zip(pool.map(model.logits, prompts), alone, strict=True):
                np.testing.assert_array_equal(logits, expected_logits)


def test_sessions_are_counted(model):
    sessions = [model.new_session() for _ in range(4)]
    assert model.logits(IDS).shape[0] == len(IDS)  # the model's own sequence is besides them
    with pytest.raises(EdgellamaError, match="all sequences are in use"):
        model.new_session()
    sessions[1].close()
    sessions[1].close()
    model.new_session().close()


def test_failed_step_changes_nothing(model, expected):
    with model.new_session() as session:
        session.prefill(IDS[:2])
        for call in (session.prefill, session.logits):
            with pytest.raises(EdgellamaError, match="token id 512"):
                call([*[7] * 550, 512])
            assert session.ids == IDS[:2]
        np.testing.assert_array_equal(session.logits(IDS[2:]), expected[2:])


# Several models, processes, and the end


def test_two_models_at_once(path, synthetic_model, expected):
    with edgellama.load(path) as first, edgellama.load(synthetic_model("q8_0")) as second:
        other = second.logits(IDS)
        with ThreadPoolExecutor(2) as pool:
            for _ in range(5):
                one, two = pool.map(lambda model: model.logits(IDS), (first, second))
                np.testing.assert_array_equal(one, expected)
                np.testing.assert_array_equal(two, other)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_child_process(model, expected):
    model.logits(IDS)
    child = os.fork()
    if child == 0:  # no test framework may see this process
        code = 1
        try:
            code = 0 if np.array_equal(model.logits(IDS), expected) else 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(model.logits(IDS), expected)


def test_progress_of_loading(path):
    reports = []
    with edgellama.load(path, progress=lambda *report: reports.append(report)) as model:
        packing = [(done, total) for what, done, total in reports if what.startswith("packing weights")]
        said = next(what for what, _, _ in reports if what.startswith("packing"))
        assert f"{size(model.memory.total_bytes)} of memory" in said
    assert packing == sorted(packing)
    assert packing[-1][0] == packing[-1][1] > 0


def test_close_ends_the_threads(path):
    before = threading.active_count()
    with edgellama.load(path, threads=4) as model:
        model.logits(IDS)
        assert threading.active_count() == before + 3
    assert threading.active_count() == before
    model.close()


def test_a_model_that_nobody_closes_ends_its_threads(path):
    import gc

    before = threading.active_count()
    model = edgellama.load(path, threads=3)
    model.logits(IDS)
    del model
    gc.collect()
    assert threading.active_count() == before
