"""Prompts that see themselves as a whole: their layout, and sessions of a model that reads them."""

import numpy as np
import pytest

import edgellama
from converters.conversion import ConvertOptions, plan_conversion, write_conversion
from edgellama.errors import EdgellamaError
from edgellama.model import StepToken
from edgellama.prefix import PrefixRule

END, MASK = 1060, 1057
RULE = PrefixRule(END, (MASK, 1056))


def test_layout():
    layout = RULE.layout([], [7, 8, MASK, END, 9])
    assert layout.rotary.tolist() == [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2]]
    assert layout.ends.tolist() == [3, 3, 3, 4, 5]
    later = RULE.layout([7, 8, MASK, END, 9], [3, 4])
    assert later.rotary.tolist() == [[2, 3], [2, 4]] and later.ends.tolist() == [6, 7]
    other = RULE.layout([], [1056, 5, END])
    assert other.rotary.tolist() == [[0, 0], [1, 0], [0, 1]]


def test_layout_of_a_text_without_an_end():
    layout = RULE.layout([5], [6, 7])
    assert layout.rotary.tolist() == [[1, 0], [2, 0]] and layout.ends.tolist() == [2, 3]


def test_what_of_the_cache_is_usable():
    prompt = [7, MASK, END]
    assert RULE.usable([*prompt, 9, 8], [*prompt, 9, 6], 4) == 4
    assert RULE.usable(prompt, [7, MASK, END], 2) == 0
    assert RULE.usable(prompt, [7, MASK, 5, END], 2) == 0
    assert RULE.usable([7, 8, 9], [7, 8, 5], 2) == 2
    assert RULE.usable(prompt, [7, 8], 1) == 0


@pytest.fixture(scope="module")
def model(shared_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("prefix") / "chatglm.gguf"
    write_conversion(plan_conversion(shared_data / "models" / "chatglm1", ConvertOptions("f32")), path)
    with edgellama.load(path, kv_type="f32", threads=2, context=1024, sequences=3) as model:
        yield model


def prompt(length: int, seed: int = 0) -> list[int]:
    return [*np.random.default_rng(seed).integers(10, 1000, length - 2).tolist(), MASK, END]


def test_a_prompt_longer_than_a_step_of_other_models(model):
    """All of it is seen by its first token, which nothing else could tell from a short one."""
    ids = prompt(700)
    with model.new_session() as session:
        logits = session.logits(ids)
        other = session.decode(5)
    changed = [*ids[:690], 11, *ids[691:]]
    assert np.abs(model.logits(changed)[0] - logits[0]).max() > 1e-3
    np.testing.assert_array_equal(model.logits([*ids, 5])[-1], other)


def test_replacing_a_prompt_evaluates_it_again(model):
    first, second = prompt(40), [*prompt(40)[:20], *prompt(30, 1)]
    wanted = model.logits(second)[-1]
    with model.new_session() as session:
        session.prefill(first)
        np.testing.assert_array_equal(session.replace(second), wanted)
        session.decode(77)
        assert session.keep_common([*second, 77, 78]) == len(second) + 1


def test_a_prompt_cannot_be_cut(model):
    ids = prompt(30)
    with model.new_session() as session:
        session.prefill(ids[:10])
        with pytest.raises(EdgellamaError, match="as a whole"):
            session.prefill(ids[10:])
        assert session.n_tokens == 10
        session.reset()
        session.prefill(ids)
        with pytest.raises(EdgellamaError, match="as a whole"):
            session.truncate(12)
        session.truncate(len(ids))


def test_sequences_side_by_side(model):
    texts = [prompt(30), prompt(50, 1)]
    alone = [model.logits([*text, 99])[-1] for text in texts]
    sessions = [model.new_session() for _ in texts]
    for session, text in zip(sessions, texts, strict=True):
        session.prefill(text)
    np.testing.assert_array_equal(model.step([StepToken(session, 99) for session in sessions]), alone)
    for session in sessions:
        session.close()
