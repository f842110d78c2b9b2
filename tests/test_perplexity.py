"""Perplexity and divergence from a base model: their definitions, the base file's bytes, and the command."""

import json
import math
import struct

import numpy as np
import pytest

import edgellama
from edgellama import cli
from edgellama.errors import EdgellamaError
from edgellama.session import Session
from quant import log_prob_file, text_chunks
from quant.kl_divergence import compare, statistics
from quant.log_prob_file import LogProbFile, decode, encode, log_prob_writer
from quant.perplexity import ScoredRows, perplexity, scored_rows
from quant.text_chunks import TextChunks


def log_softmax(logits: np.ndarray) -> np.ndarray:
    values = logits.astype(np.float64)
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


class LetterTokenizer:
    """A token a letter; 1 begins a text if `adds_bos`."""

    bos_id = 1

    def __init__(self, adds_bos: bool):
        self.adds_bos = adds_bos

    def encode(self, text: str, add_special: bool) -> list[int]:
        assert not add_special
        return [ord(letter) for letter in text]


@pytest.fixture(scope="module")
def rows() -> ScoredRows:
    random = np.random.default_rng(3)
    return ScoredRows(random.normal(0, 4, (500, 37)).astype(np.float32), random.integers(0, 37, 500))


@pytest.fixture(scope="module")
def base_rows(rows) -> np.ndarray:
    """Log-probabilities that differ from those of `rows` a little; some are below -16."""
    return log_softmax(rows.logits * 1.5 + np.random.default_rng(4).normal(0, 0.3, rows.logits.shape)).astype("f4")


@pytest.fixture(scope="module")
def stories(shared_data):
    return shared_data / "trained" / "stories260K"


@pytest.fixture(scope="module")
def text_path(shared_data):
    return shared_data / "text" / "frankenstein.txt"


# Text and scored positions


def test_chunks_begin_with_the_token_that_begins_a_text():
    chunks = text_chunks.cut(LetterTokenizer(adds_bos=True), "abcdefghijklm", 5)  # 14 tokens: the last 4 are left over
    assert chunks.ids.tolist() == [[1, *b"abcd"], [*b"efghi"]]
    assert [chunks.evaluated(0), chunks.evaluated(1)] == [[1, *b"abcd"], [1, *b"fghi"]]
    assert len(chunks.first(1)) == 1 and len(chunks.first(None)) == 2


def test_chunks_of_a_model_without_such_a_token():
    chunks = text_chunks.cut(LetterTokenizer(adds_bos=False), "abcdefghij", 5)
    assert [chunks.evaluated(0), chunks.evaluated(1)] == [[*b"abcde"], [*b"fghij"]]


def test_a_text_of_less_than_two_chunks_is_refused():
    with pytest.raises(EdgellamaError, match=r"has 9 tokens, and a context of 5 needs at least 10"):
        text_chunks.cut(LetterTokenizer(adds_bos=True), "abcdefgh", 5)


@pytest.mark.parametrize("context", [9, 200])  # one step of logits, and several
def test_the_second_half_of_each_chunk_is_scored(stories, context):
    ids = np.random.default_rng(0).integers(3, 512, (2, context)).astype(np.int32)
    with edgellama.load(stories / "f32.gguf", context=context, kv_type="f32") as model:
        found = list(scored_rows(model, TextChunks(ids, bos_id=1)))
        whole = [model.logits([1, *chunk[1:]]) for chunk in ids.tolist()]
    logits, targets = (np.concatenate(parts) for parts in zip(*found, strict=True))
    first = context // 2
    assert np.array_equal(targets, ids[:, first + 1 :].reshape(-1))
    expected = np.concatenate([chunk[first:-1] for chunk in whole])
    assert np.abs(logits - expected).max() < 1e-5


def test_a_context_that_leaves_nothing_to_score_is_refused(stories):
    with (
        edgellama.load(stories / "f32.gguf", context=4) as model,
        pytest.raises(EdgellamaError, match="too short to score"),
    ):
        list(scored_rows(model, TextChunks(np.zeros((2, 4), np.int32), 1)))


# Definitions


def test_perplexity_is_the_exponential_of_the_mean_loss(rows):
    found = perplexity(
        [ScoredRows(rows.logits[:123], rows.targets[:123]), ScoredRows(rows.logits[123:], rows.targets[123:])]
    )
    loss = -log_softmax(rows.logits)[np.arange(500), rows.targets]
    spread = math.sqrt((np.mean(loss**2) - np.mean(loss) ** 2) / 499)
    assert found.n_tokens == 500
    assert found.estimate.value == pytest.approx(math.exp(loss.mean()), rel=1e-6)
    assert found.estimate.error == pytest.approx(math.exp(loss.mean()) * spread, rel=1e-6)


def percentile(values: np.ndarray, share: float) -> float:
    """Linear between the two neighbours in order."""
    ordered = sorted(values.tolist())
    place = share / 100 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def test_statistics_of_a_comparison(rows, base_rows):
    """Written down as llama.cpp has them: sums, sums of squares, and a covariance."""
    found = statistics(compare(rows, base_rows))
    picked = np.arange(500), rows.targets
    own, base, n = log_softmax(rows.logits), base_rows.astype(np.float64), 500
    loss, base_loss = -own[picked], -base[picked]

    def error(values):
        return math.sqrt((np.sum(values**2) / n - np.mean(values) ** 2) / (n - 1))

    covariance = (np.sum(loss * base_loss) / n - loss.mean() * base_loss.mean()) / (n - 1)
    q, b = math.exp(loss.mean()), math.exp(base_loss.mean())
    log_error = math.sqrt(error(loss) ** 2 + error(base_loss) ** 2 - 2 * covariance)
    difference_error = math.sqrt((q * error(loss)) ** 2 + (b * error(base_loss)) ** 2 - 2 * q * b * covariance)
    divergence = np.where(base > -16, np.exp(base) * (base - own), 0).sum(axis=1)
    change = np.exp(-loss) - np.exp(-base_loss)
    rms = math.sqrt(np.mean(change**2))
    same = np.mean(own.argmax(axis=1) == base.argmax(axis=1))
    assert (base <= -16).any() and 0 < same < 1  # else this tests less than it says
    expected = {
        "perplexity": (q, q * error(loss)),
        "base_perplexity": (b, b * error(base_loss)),
        "correlation": covariance / (error(loss) * error(base_loss)),
        "log_ratio": (loss.mean() - base_loss.mean(), log_error),
        "ratio": (q / b, q / b * log_error),
        "difference": (q - b, difference_error),
        "same_top": (same, math.sqrt(same * (1 - same) / (n - 1))),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert found["change"]["rms"] == pytest.approx((rms, error(change**2) / (2 * rms)), rel=1e-4)
    for name, values in (("divergence", divergence), ("change", change)):
        assert found[name]["mean"] == pytest.approx((values.mean(), error(values)), rel=1e-4)
        assert (found[name]["maximum"], found[name]["minimum"]) == pytest.approx((values.max(), values.min()), abs=2e-6)
        assert {"99.9", "99", "95", "90", "50", "10", "5", "1", "0.1"} <= found[name]["percentiles"].keys()
        for share, value in found[name]["percentiles"].items():
            assert value == pytest.approx(percentile(values, float(share)), rel=1e-3, abs=1e-6), (name, share)


def test_a_model_does_not_differ_from_itself(rows):
    found = statistics(compare(rows, log_softmax(rows.logits).astype(np.float32)))
    assert abs(found["divergence"]["mean"].value) < 1e-6 and found["same_top"].value == 1
    assert found["change"]["rms"].value < 1e-6 and found["ratio"].value == pytest.approx(1, abs=1e-6)


# The base file


def test_bytes_of_a_row():
    """Three tokens: the likeliest, one 4 below it, and one further below than codes reach."""
    step, log_sum = np.float32(16) / np.float32(65535), math.log(1 + math.exp(-4) + math.exp(-20))
    expected = struct.pack("<ff4H", step, -16 - np.float32(log_sum), 65535, 49151, 0, 0)  # (16 - 4) / 16 * 65535
    found = encode(np.array([[5, 1, -15]], np.float32))
    assert found.tobytes() == expected
    assert decode(found, 3)[0] == pytest.approx([-log_sum, -4 - log_sum, -16 - log_sum], abs=float(step))


def test_bytes_of_a_row_whose_tokens_are_all_alike():
    assert encode(np.full((1, 2), 7, np.float32)).tobytes() == struct.pack("<ff2H", 0, -np.float32(math.log(2)), 0, 0)


def test_codes_are_as_near_as_16_bits_allow(rows):
    exact = log_softmax(rows.logits)
    floor = np.maximum(exact.min(axis=1), exact.max(axis=1) - 16)[:, None]
    assert np.abs(decode(encode(rows.logits), 37) - np.maximum(exact, floor)).max() < 0.5 * 16 / 65535 + 1e-5


def test_bytes_of_a_file(tmp_path, rows):
    path, chunks = tmp_path / "base.kld", TextChunks(np.arange(20, dtype=np.int32).reshape(2, 10), None)
    logits = rows.logits[:8]  # 4 scored positions of each of the 2 chunks
    with log_prob_writer(path, chunks, 37) as save:
        save(logits[:3])
        save(logits[3:])
    header = b"_logits_" + struct.pack("<3i", 10, 37, 2) + struct.pack("<20i", *range(20))
    assert path.read_bytes() == header + encode(logits).tobytes()
    with LogProbFile(path) as file:
        assert (file.context, file.vocabulary, file.n_chunks) == (10, 37, 2)
        assert np.array_equal(file.ids, chunks.ids)
        assert np.array_equal(np.concatenate([file.read(5), file.read(3)]), decode(encode(logits), 37))


@pytest.mark.parametrize("problem", [KeyboardInterrupt, EdgellamaError])
def test_a_run_that_stops_leaves_no_file(tmp_path, rows, problem):
    chunks = TextChunks(np.zeros((2, 10), np.int32), None)
    with pytest.raises(problem), log_prob_writer(tmp_path / "base.kld", chunks, 37) as save:
        save(rows.logits[:3])
        raise problem
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_disk_cannot_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(log_prob_file.system, "free_disk_bytes", lambda folder: 1000)
    chunks = TextChunks(np.zeros((2, 10), np.int32), None)
    with (
        pytest.raises(EdgellamaError, match="needs 1,764 bytes, and its disk has 1,000 left"),
        log_prob_writer(tmp_path / "base.kld", chunks, 100),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: b"_logit__" + data[8:], "is no file of log-probabilities"),
        (lambda data: data[:14], "too small"),
        (lambda data: data[:8] + struct.pack("<i", -512) + data[12:], "too small"),
        (lambda data: data[:-1], r"of \d+ bytes; write it again"),
        (lambda data: data[:16] + struct.pack("<i", 1 << 30) + data[20:], "write it again"),
    ],
)
def test_damaged_base_files_are_refused(tmp_path, rows, change, sentence):
    path = tmp_path / "base.kld"
    with log_prob_writer(path, TextChunks(np.zeros((1, 10), np.int32), None), 37) as save:
        save(rows.logits[:4])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(EdgellamaError, match=sentence):
        LogProbFile(path)


# Against two other implementations


MODELS = {
    "trained/stories260K/f32": "llama_perplexity",
    "quantized/stories260K/Q8_0": "llama_perplexity_Q8_0",
    "quantized/stories260K/Q4_0": "llama_perplexity_Q4_0",
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("text", ["frankenstein.txt", pytest.param("exl2_tiny.utf8", marks=pytest.mark.slow)])
def test_perplexity_of_a_trained_model(shared_data, stories, text_path, name, text):
    """Against llama.cpp's tool, and for the model that is not quantized against Hugging Face's implementation."""
    expected = json.loads((stories / "ppl.json").read_text())[f"{text} n_ctx=256"]
    chunks = TextChunks(np.load(stories / f"ppl_ids_{text}_256.npy").astype(np.int32), bos_id=1)
    with edgellama.load(shared_data / f"{name}.gguf", context=256, kv_type="f32") as model:
        if text == text_path.name:
            own = text_chunks.cut(model.tokenizer, text_path.read_text().removesuffix("\n"), 256)
            assert np.array_equal(own.first(len(chunks)).ids[:, 1:], chunks.ids[:, 1:])
        found = perplexity(scored_rows(model, chunks)).estimate
    key = MODELS[name]
    if key == "llama_perplexity":
        assert found == pytest.approx([float(figure) for figure in expected[key]], rel=1e-4)
        assert found.value == pytest.approx(expected["hf_ppl"], rel=1e-6)
    else:
        assert found.value == pytest.approx(float(expected[key]), rel=1e-3)


# The command


def figures(capsys, *arguments) -> dict:
    assert cli.main(["perplexity", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *arguments) -> str:
    """The one sentence of a command that must fail."""
    try:
        code = cli.main(["perplexity", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    assert (code, output.out, output.err.count("\n")) == (2, "", 1), output.err
    return output.err


@pytest.fixture(scope="module")
def base_file(stories, text_path, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "base.kld"
    options = ["--context", "64", "--chunks", "6", "--kl-divergence-base", str(path)]
    assert cli.main(["perplexity", str(stories / "f32.gguf"), str(text_path), *options]) == 0
    return path


def test_comparison_on_the_command_line(shared_data, stories, text_path, base_file, capsys):
    capsys.readouterr()
    compared = ["--kl-divergence", "--kl-divergence-base", base_file]
    same = figures(capsys, stories / "f32.gguf", *compared)
    assert (same["context"], same["chunks"], same["tokens"]) == (64, 6, 6 * 31)
    assert abs(same["divergence"]["mean"]["value"]) < 1e-5 and same["same_top"]["value"] == 1
    model = shared_data / "quantized" / "stories260K" / "Q4_0.gguf"
    alone = figures(capsys, model, text_path, "--context", 64, "--chunks", 6)
    found = figures(capsys, model, text_path, *compared)
    assert found["perplexity"] == pytest.approx(alone["perplexity"], rel=1e-6)
    assert found["divergence"]["mean"]["value"] > 100 * abs(same["divergence"]["mean"]["value"])
    part = figures(capsys, model, *compared, "--chunks", 2)
    assert part["tokens"] == 62 and part["divergence"]["maximum"] <= found["divergence"]["maximum"]
    assert cli.main(["perplexity", str(model), *map(str, compared)]) == 0
    text = capsys.readouterr().out
    assert f"{found['divergence']['mean']['value']:.6f} ± {found['divergence']['mean']['error']:.6f}" in text
    assert f"{100 * found['same_top']['value']:.3f} ± " in text


def test_wrong_input_is_one_sentence(stories, text_path, base_file, tmp_path, capsys, synthetic_model):
    capsys.readouterr()
    model, short = stories / "f32.gguf", tmp_path / "short.txt"
    short.write_text("Once upon a time there was a little text.")
    base = ["--kl-divergence", "--kl-divergence-base", base_file]
    assert "no-such.txt" in refusal(capsys, model, tmp_path / "no-such.txt")
    assert "no-such.gguf" in refusal(capsys, tmp_path / "no-such.gguf", text_path)
    assert "TEXT-FILE is needed" in refusal(capsys, model)
    assert "needs at least 1024" in refusal(capsys, model, short)
    assert "--kl-divergence-base FILE" in refusal(capsys, model, text_path, "--kl-divergence")
    assert "--context 64" in refusal(capsys, model, *base, "--context", 32)
    assert "another text or tokenizer" in refusal(capsys, model, stories / "config.json", *base)
    assert "is no file of log-probabilities" in refusal(capsys, model, "--kl-divergence", "--save-logits", text_path)
    missing = tmp_path / "no-such-folder" / "base.kld"
    assert "its folder does not exist" in refusal(capsys, model, text_path, "--context", 64, "--save-logits", missing)
    other = synthetic_model("q4_0", shape="tiny")
    data = bytearray(base_file.read_bytes())
    data[12:16] = struct.pack("<i", 500)
    (tmp_path / "other.kld").write_bytes(data)
    sentence = refusal(capsys, other, "--kl-divergence", "--save-logits", tmp_path / "other.kld")
    assert "vocabulary of 500 tokens" in sentence and "has 512" in sentence


def test_ctrl_c_leaves_nothing_behind(stories, text_path, tmp_path, monkeypatch, capsys):
    logits, calls = Session.logits, []

    def interrupted(self, ids):
        calls.append(len(ids))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return logits(self, ids)

    monkeypatch.setattr(Session, "logits", interrupted)
    arguments = [stories / "f32.gguf", text_path, "--context", 64, "--save-logits", tmp_path / "base.kld"]
    assert cli.main(["perplexity", *map(str, arguments)]) == 130
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""
