"""Whole models on an emulated GPU against the same models on the CPU: logits, hidden states, sequences, failures."""

import numpy as np
import pytest
from cuda_emulation import ORDERS, exact_logits, open_model, small_model
from fp8_files import fp8_model
from model_files import relative_rms

from edgellama.errors import EdgellamaError
from edgellama.model import StepToken

IDS = np.random.default_rng(3).integers(3, 250, 12).tolist()
LONG = np.random.default_rng(4).integers(3, 250, 270).tolist()  # more than a page, and than two tiles of products
FLOAT_TYPES = ["f16", "bf16", "f32"]
INTEGER_TYPES = ["q4_0", "q8_0", "pure:q4_k", "pure:q6_k"]
# Products of many rows take activations and weights as halves: 11 bits each, in every layer. With one row only what
# the cache rounds to a half may go either way.
HALVES, FLOATS = 2e-3, 2e-4


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Path of a small model by type name and number of layers."""
    pytest.importorskip("gguf", reason="the gguf package writes the models of this test")
    folder, made = tmp_path_factory.mktemp("small"), {}

    def make(type_name: str, n_layers: int = 1):
        key = (type_name, n_layers)
        if key not in made:
            made[key] = small_model(folder / f"{len(made)}.gguf", type_name, n_layers)
        return made[key]

    return make


def forward(path, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits of IDS in one step, and of five of them as the first token of a sequence."""
    with open_model(path, device) as model, model.new_session() as session:
        alone = []
        for token_id in IDS[:5]:
            session.reset()
            alone.append(session.decode(token_id))
        return model.logits(IDS), np.stack(alone)


def check_floats(path) -> None:
    """Weights that are multiplied as floats: as the CPU does, but for the halves of many rows."""
    (many, one), (found_many, found_one) = forward(path, "cpu"), forward(path, "cuda")
    assert relative_rms(found_many, many) <= HALVES
    assert relative_rms(found_one, one) <= FLOATS


def check_integers(path) -> None:
    """Products of int8 activations: as far from the exact logits as the CPU, whose rounding is the same.

    Where a value lies near the middle of two integers, the smallest difference before lets it go to the other one; so
    the logits of random weights, which pass such a step on, agree no better than with the exact ones.
    """
    exact = exact_logits(path, IDS)
    (many, one), (found_many, found_one) = forward(path, "cpu"), forward(path, "cuda")
    assert relative_rms(found_many, exact) <= 1.25 * relative_rms(many, exact) + HALVES
    # Codes of a Q8_0 embedding may lie in the very middle of two integers: the median knows nothing of such a token.
    differences = [relative_rms(a, b) for a, b in zip(found_one, one, strict=True)]
    assert np.median(differences) <= 0.3 * relative_rms(one[0], exact[0])


@pytest.mark.parametrize("type_name", ["f16", pytest.param("bf16", marks=pytest.mark.slow), "f32"])
def test_logits_of_float_weights(small, emulated_cuda, type_name):
    check_floats(small(type_name))


@pytest.mark.parametrize(
    "type_name", ["q4_0", *(pytest.param(name, marks=pytest.mark.slow) for name in INTEGER_TYPES[1:])]
)
def test_logits_of_integer_weights(small, emulated_cuda, type_name):
    check_integers(small(type_name))


@pytest.mark.slow
@pytest.mark.parametrize("type_name", ["pure:q5_k", "pure:q4_1"])
def test_formats_that_become_halves(small, emulated_cuda, type_name):
    """They are multiplied with float activations, as the exact logits are."""
    path = small(type_name)
    found, _ = forward(path, "cuda")
    assert relative_rms(found, exact_logits(path, IDS)) <= HALVES


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["tensor", "row", "block", "run"])
@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_logits_of_fp8_weights(small, emulated_cuda, tmp_path, kind, granularity):
    check_floats(fp8_model(small("f16"), tmp_path / "fp8.gguf", kind, granularity))


@pytest.mark.slow
def test_layers_and_sequences_longer_than_a_page(small, emulated_cuda):
    path, found = small("f16", 2), {}
    for device in ("cpu", "cuda"):
        with open_model(path, device) as model, model.new_session() as session:
            found[device] = np.array([session.prefill(LONG), session.decode(5), session.decode(6)])
    assert relative_rms(found["cuda"], found["cpu"]) <= 2 * HALVES


def test_hidden_states(small, emulated_cuda):
    found = {}
    for device in ("cpu", "cuda"):
        with open_model(small("f16"), device) as model, model.new_session() as session:
            found[device] = session.hidden(IDS[:3])
    assert relative_rms(found["cuda"], found["cpu"]) <= HALVES


def test_a_step_of_several_sequences(small, emulated_cuda):
    """The same as each by itself."""
    expected = []
    with open_model(small("f16"), "cuda", n_sequences=3) as model:
        with model.new_session() as first, model.new_session() as second:
            first.prefill(IDS[:2])
            second.prefill(IDS[2:3])
            both = model.step([StepToken(first, 7), StepToken(second, 9)])
        for ids in ([*IDS[:2], 7], [IDS[2], 9]):
            with model.new_session() as alone:
                expected.append([alone.decode(token) for token in ids][-1])
    assert relative_rms(both, np.array(expected)) <= HALVES


@pytest.mark.slow
def test_sequences_whose_tokens_alternate(small, emulated_cuda):
    """More tokens than attention takes one by one, of two sequences in turns."""
    slots = [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1]
    positions = [0, 1, 2, 0, 1, 3, 4, 5, 2, 3, 4, 5]
    found = {}
    for device in ("cpu", "cuda"):
        with open_model(small("f16"), device) as model:
            found[device] = model.run_frame(IDS, positions, slots, range(12)).copy()
    assert relative_rms(found["cuda"], found["cpu"]) <= HALVES


@pytest.mark.parametrize("order", [("cpu", "cuda"), ("cuda", "cpu")], ids="-".join)
def test_sessions_move_between_devices(small, emulated_cuda, tmp_path, order):
    path, file = small("f16"), tmp_path / "saved"
    with open_model(path, order[0]) as model, model.new_session() as session:
        session.prefill(IDS[:3])
        session.save(file, "a note")
        expected = session.decode(7)
    with open_model(path, order[1]) as model, model.new_session() as session:
        assert session.load(file) == "a note"
        session.save(tmp_path / "again", "a note")
        assert relative_rms(session.decode(7), expected) <= FLOATS
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_a_step_does_not_depend_on_the_order_of_threads(small, emulated_cuda, emulator):
    with open_model(small("q8_0"), "cuda") as model, model.new_session() as session:
        expected = session.decode(5)
        emulator.seed = ORDERS[0]
        session.reset()
        np.testing.assert_array_equal(session.decode(5), expected)


def test_a_cancelled_step_is_repeated_or_given_up(small, emulated_cuda, emulator):
    def cancel(*launch):
        emulator.launch(*launch)
        if launch[0] == "attention_decode":
            model.machine.cancel()

    def give_up():
        raise InterruptedError

    with open_model(small("f16"), "cuda") as model, model.new_session() as session:
        expected = session.decode(5)
        session.reset()
        emulated_cuda.on_launch = cancel
        with pytest.raises(InterruptedError):
            model.run_frame([5], [0], [session.slot], [0], give_up)
        emulated_cuda.on_launch = emulator.launch
        np.testing.assert_array_equal(session.decode(5), expected)


def test_an_answer_is_the_same(small, emulated_cuda):
    """Greedy, where the weights leave no doubt."""
    found = {}
    for device in ("cpu", "cuda"):
        with open_model(small("f32"), device) as model:
            answer = model.generate([1, 5], max_tokens=2, temperature=0)
            "".join(answer)
            found[device] = answer.stats.ids
    assert len(found["cpu"]) == 2 and found["cuda"] == found["cpu"]


def n_calls_of(path, fake, name: str) -> int:
    fake.calls.clear()
    open_model(path, "cuda").close()
    return fake.calls[name]


@pytest.mark.parametrize("name", ["cuMemAlloc_v2", "cuMemHostAlloc"])
def test_every_allocation_that_fails(small, fake_cuda, name):
    """One sentence, nothing left on the GPU, and the next load works."""
    path = small("q4_0")
    n_calls = n_calls_of(path, fake_cuda, name)
    assert n_calls > 2
    for number in range(n_calls):
        fake_cuda.fail(name, 2, after=number)
        with pytest.raises(EdgellamaError) as caught:
            open_model(path, "cuda")
        assert "memory" in str(caught.value) and "\n" not in str(caught.value)
        assert not fake_cuda.left(), f"after call {number} of {name}"
    open_model(path, "cuda").close()


@pytest.mark.slow
def test_every_call_of_the_driver_that_fails(small, fake_cuda):
    path = small("q4_0")
    open_model(path, "cuda").close()  # some calls are made once
    fake_cuda.calls.clear()
    open_model(path, "cuda").close()
    for number in range(1, fake_cuda.calls.total() + 1):
        fake_cuda.fail_call(number, 700)
        try:
            open_model(path, "cuda").close()
        except EdgellamaError as error:
            assert "\n" not in str(error)
        assert not fake_cuda.left(), f"after call {number}"


def test_a_lost_gpu(small, fake_cuda):
    with open_model(small("q4_0"), "cuda") as model, model.new_session() as session:
        fake_cuda.lose(700)
        with pytest.raises(EdgellamaError):
            session.decode(5)


def test_an_old_gpu(small, fake_cuda):
    fake_cuda.compute_capability = (7, 0)
    fake_cuda.attributes |= {75: 7, 76: 0}
    with pytest.raises(EdgellamaError, match=r"7\.0; the least that can be used is 7\.5"):
        open_model(small("q4_0"), "cuda")


@pytest.mark.slow  # compiles the kernels of that generation
def test_heads_that_a_gpu_has_no_shared_memory_for(tmp_path, fake_cuda):
    """A GPU of compute capability 7.5 has 64 KiB per block."""
    fake_cuda.compute_capability = (7, 5)
    fake_cuda.attributes |= {75: 7, 76: 5, 97: 64 << 10}
    with pytest.raises(EdgellamaError, match=r"65,536 bytes of shared memory .* needs [67]\d,\d{3} for"):
        open_model(small_model(tmp_path / "wide.gguf", "f16", 1, n_heads=1), "cuda")
