"""Answers: why they end, cancelling, stop strings, log-probabilities, a full context, and what the cache keeps."""

import threading
import time

import numpy as np
import pytest

import edgellama
from edgellama.errors import ContextFullError, EdgellamaError

CONTEXT = 320
IDS = [1, 20, 30, 40, 50]


@pytest.fixture(scope="module")
def path(synthetic_model):
    return synthetic_model("q4_0")


@pytest.fixture
def model(path):
    with edgellama.load(path, threads=2, context=CONTEXT, sequences=2) as model:
        yield model


@pytest.fixture(scope="module")
def greedy_ids(path) -> list[int]:
    """What a model says to IDS."""
    with edgellama.load(path, threads=1, context=CONTEXT) as model:
        return model.generate(IDS, 40, temperature=0).run().ids


def text_of(model, ids: list[int]) -> str:
    stream = model.tokenizer.stream()
    return "".join([*map(stream.push, ids), stream.finish()])


def test_reasons_to_end(model, greedy_ids):
    answer = model.generate(IDS, 7, temperature=0)
    assert answer.finish_reason is None
    assert "".join(answer) == answer.text == text_of(model, greedy_ids[:7])
    assert (answer.finish_reason, answer.context_full) == ("length", False)
    model.tokenizer.end_ids.add(greedy_ids[5])
    ended = model.generate(IDS, 40, temperature=0).run()
    assert (ended.finish_reason, ended.ids) == ("stop", greedy_ids[: greedy_ids.index(greedy_ids[5])])
    model.tokenizer.end_ids.clear()
    full = model.generate(IDS, None, temperature=0).run()
    assert (full.finish_reason, full.context_full) == ("length", True)
    assert len(IDS) + len(full.ids) == CONTEXT + 1


def test_stop_string(model, greedy_ids):
    text = text_of(model, greedy_ids)
    stop = text[10:14]
    answer = model.generate(IDS, 40, temperature=0, stop=["never there", stop]).run()
    assert (answer.text, answer.finish_reason) == (text[: text.index(stop)], "stop")
    assert len(answer.ids) < 40


def test_closing_ends_an_answer(model):
    answer = model.generate(IDS, 40, temperature=0)
    next(answer)
    answer.close()
    assert answer.finish_reason == "cancelled"
    assert list(answer) == []
    unstarted = model.generate(IDS, 40)
    unstarted.close()
    assert unstarted.finish_reason == "cancelled"


def test_cancel_from_another_thread(model, greedy_ids):
    answer = model.generate(IDS, None, temperature=0, on_full="shift")  # would go on for ever
    timer = threading.Timer(0.2, answer.cancel)
    timer.start()
    answer.run()
    assert answer.finish_reason == "cancelled"
    assert model.generate(IDS, 40, temperature=0).run().ids == greedy_ids


def test_cancel_in_the_middle_of_a_step(path, monkeypatch):
    """The flag stops the machine itself: a step that would take its time does not finish."""
    with edgellama.load(path, threads=2, context=2000) as model:
        prompt = np.random.default_rng(0).integers(3, 500, 1500).tolist()
        answer = model.generate(prompt, 5)
        started = threading.Event()
        original = model.machine.run

        def run():
            started.set()
            time.sleep(0.02)  # the other thread sets the flag meanwhile
            return original()

        monkeypatch.setattr(model.machine, "run", run)
        thread = threading.Thread(target=lambda: (started.wait(), answer.cancel()))
        thread.start()
        answer.run()
        thread.join()
        assert (answer.finish_reason, answer.ids) == ("cancelled", [])
        assert model.slots._idle[0].n_tokens == 0  # the interrupted step added nothing


def test_an_interrupted_step_of_another_answer_is_repeated(model, greedy_ids):
    """A flag that was meant for a step that is already over."""
    model.machine.cancel()
    assert model.generate(IDS, 40, temperature=0).run().ids == greedy_ids


def test_a_new_answer_in_a_session_ends_the_one_before(model):
    with model.new_session() as session:
        first = session.generate(IDS, 40, temperature=0)
        next(first)
        n = session.n_tokens
        second = session.generate([7], 3, temperature=0).run()
        assert list(first) == []
        assert first.finish_reason == "cancelled"
        assert session.ids == [*session.ids[:n], 7, *second.ids[:-1]]


def test_logprobs(model):
    answer = model.generate(IDS, 4, temperature=0, logprobs=3).run()
    logits = model.logits([*IDS, *answer.ids])[len(IDS) - 1 : -1].astype(np.float64)  # (4, vocab)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for entry, token_id, row in zip(answer.logprobs, answer.ids, expected, strict=True):
        assert entry.id == token_id
        np.testing.assert_allclose(entry.logprob, row[token_id], atol=1e-5)
        assert [top for top, _ in entry.top] == np.argsort(-row, kind="stable")[:3].tolist()
        np.testing.assert_allclose([value for _, value in entry.top], np.sort(row)[::-1][:3], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"on_full": "grow"}, "on_full"),
        ({"stop": [""]}, "stop string"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_options_out_of_range(model, options, named):
    with pytest.raises(EdgellamaError, match=named):
        model.generate(IDS, **options)


# What the cache keeps


def test_a_longer_prompt_goes_on_where_it_differs(model):
    prompt = np.random.default_rng(1).integers(3, 500, 200).tolist()
    model.generate(prompt, 5, temperature=0).run()
    longer = [*prompt[:150], 7, 8, 9]
    answer = model.generate(longer, 10, temperature=0).run()
    assert answer.stats.cached_tokens == 150
    with model.new_session() as fresh:
        assert fresh.generate(longer, 10, temperature=0).run().ids == answer.ids
    again = model.generate(longer, 10, temperature=0).run()
    assert (again.stats.cached_tokens, again.ids) == (len(longer) - 1, answer.ids)


def test_two_texts_keep_a_place_each(model):
    texts = [np.random.default_rng(seed).integers(3, 500, 100).tolist() for seed in (1, 2)]
    for text in texts:
        model.generate(text, 2, temperature=0).run()
    for text in texts:
        assert model.generate(text, 2, temperature=0).run().stats.cached_tokens == 99
    sessions = [model.new_session(), model.new_session()]  # they need a place: the oldest text's
    cached = [model.generate(text, 2, temperature=0).run().stats.cached_tokens for text in texts[::-1]]
    assert cached == [99, 0]
    for session in sessions:
        session.close()


def test_shift_keeps_the_beginning_and_goes_on(model):
    """A full context: what is kept is evaluated again, so the text goes on as if it had been written so."""
    answer = model.generate(IDS, CONTEXT + 60, temperature=0, on_full="shift").run()
    assert len(answer.ids) == CONTEXT + 60
    before = [*IDS, *answer.ids[: CONTEXT - len(IDS) + 1]]  # full, and one more token chosen
    kept = before[:5] + before[5 + (len(before) - 4) // 2 :]
    expected = model.generate(kept, 10, temperature=0).run().ids
    assert answer.ids[CONTEXT - len(IDS) + 1 :][:10] == expected


def test_a_prompt_that_does_not_fit_is_never_cut(model):
    with pytest.raises(ContextFullError, match=f"{CONTEXT + 1} tokens do not fit into the context of {CONTEXT}"):
        model.generate([5] * (CONTEXT + 1), 1, on_full="shift").run()


def test_several_answers_at_once(model):
    """Threads with answers of their own get what they get alone, whoever goes first."""
    prompts = [[1, 20 + i, 30] for i in range(6)]
    alone = [model.generate(prompt, 20, temperature=0).run().ids for prompt in prompts]
    found: dict[int, list[int]] = {}

    def tell(index: int) -> None:
        while index not in found:
            try:
                found[index] = model.generate(prompts[index], 20, temperature=0).run().ids
            except EdgellamaError:  # more threads than places
                time.sleep(0.01)

    threads = [threading.Thread(target=tell, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(6)] == alone


# Embeddings


def test_embeddings_are_the_pooled_states_before_the_output_matrix(path):
    """The output matrix applied to the hidden states gives the logits; the vectors are their mean and last."""
    with edgellama.load(path, repack=False) as model:
        text = "Once upon a time there was a little girl"
        ids = model.tokenize(text)
        with model.new_session() as session:
            hidden = session.hidden(ids)
        assert hidden.shape == (len(ids), model.config.d_model)
        assert relative_error(hidden @ output_matrix(model).T, model.logits(ids)) < 0.02  # activations are int8 there
        mean, last = model.embed(text, normalize=False), model.embed(text, pooling="last", normalize=False)
        np.testing.assert_allclose(mean, hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(last, hidden[-1])
        both = model.embed([text, "a"])
        np.testing.assert_allclose(both[0], mean / np.linalg.norm(mean), rtol=1e-5)
        assert np.linalg.norm(both[1]) == pytest.approx(1)
        np.testing.assert_array_equal(both[1], model.embed("a"))
        with pytest.raises(EdgellamaError, match="pooling must be one of mean, last"):
            model.embed("a", pooling="max")


def output_matrix(model) -> np.ndarray:
    from edgellama.formats import by_name

    tensor = model.file.tensors["output.weight"]
    return by_name(tensor.type_name).decode_rows(tensor.data, tensor.shape[1])  # (vocab, d_model)


def relative_error(values: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(values - exact) / np.linalg.norm(exact))


# Texts of a given form


def test_a_grammar_ends_the_answer(model):
    answer = model.generate(IDS, grammar='root ::= "yes" | "no"', temperature=1, seed=1).run()
    assert (answer.text in ("yes", "no"), answer.finish_reason) == (True, "stop")
    cut = model.generate(IDS, 3, regex="a{40}", temperature=0).run()
    assert set(cut.text) == {"a"} and cut.finish_reason == "length"


def test_only_the_empty_text(model):
    model.tokenizer.end_ids.clear()  # nothing could say that the text ends here
    answer = model.generate(IDS, grammar='root ::= ""').run()
    assert (answer.text, answer.ids, answer.finish_reason) == ("", [], "stop")


def test_one_form_at_a_time(model):
    with pytest.raises(EdgellamaError, match="only one of json_schema, grammar and regex"):
        model.generate(IDS, json_schema={}, regex="a")
    with pytest.raises(EdgellamaError, match="line 1"):
        model.generate(IDS, grammar="root = a")
