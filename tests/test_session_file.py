"""Sessions on disk: they continue as if never closed, and anything else in a file is refused with one sentence."""

import hashlib
import json
import os
import struct

import numpy as np
import pytest

import edgellama
from edgellama.errors import EdgellamaError

PROMPT = np.random.default_rng(5).integers(3, 500, 290).tolist()  # more than a page


@pytest.fixture(scope="module")
def path(synthetic_model):
    return synthetic_model("q4_0")


@pytest.fixture(scope="module", params=["f16", "q8_0", "f32"])
def model(path, request):
    with edgellama.load(path, context=400, sequences=2, kv_type=request.param) as model:
        yield model


@pytest.fixture
def saved(model, tmp_path):
    """A session on disk."""
    with model.new_session() as session:
        session.prefill(PROMPT)
        session.save(tmp_path / "chat.session", "a note, ü")
    return tmp_path / "chat.session"


def test_a_loaded_session_goes_on(model, saved):
    with model.new_session() as fresh, model.new_session() as loaded:
        fresh.prefill(PROMPT)
        assert loaded.load(saved) == "a note, ü"
        assert loaded.ids == PROMPT
        for token in (5, 6, 7):
            np.testing.assert_array_equal(loaded.decode(token), fresh.decode(token))


def test_the_file_replaces_what_the_session_had(model, saved):
    with model.new_session() as session:
        session.prefill([9] * 350)
        session.load(saved)
        assert session.ids == PROMPT
        with model.new_session() as fresh:
            np.testing.assert_array_equal(session.decode(5), fresh.prefill([*PROMPT, 5]))


def test_an_empty_session(model, tmp_path):
    with model.new_session() as session:
        session.save(tmp_path / "empty")
        session.prefill([1, 2])
        session.load(tmp_path / "empty")
        assert session.ids == []


def change_head(data: bytes, **values) -> bytes:
    """The file with another head and a checksum that fits."""
    (length,) = struct.unpack("<I", data[8:12])
    head = json.dumps(json.loads(data[12 : 12 + length]) | values).encode()
    start = data[:8] + struct.pack("<I", len(head)) + head
    old_start = 12 + length + -(12 + length) % 64
    body = start + bytes(-len(start) % 64) + data[old_start:-32]
    return body + hashlib.sha256(body).digest()


def with_ids(data: bytes, token: int) -> bytes:
    (length,) = struct.unpack("<I", data[8:12])
    start = 12 + length + -(12 + length) % 64
    body = data[:start] + struct.pack("<i", token) + data[start + 4 : -32]
    return body + hashlib.sha256(body).digest()


DAMAGES = {
    "empty": (lambda data: b"", "cannot be read: it is empty"),
    "short": (lambda data: data[:5], "is no session file"),
    "another kind": (lambda data: b"GGUF" + data[4:], "is no session file"),
    "head": (lambda data: data[:12] + b"}" + data[13:], "its head is unreadable"),
    "brackets": (lambda data: data[:8] + struct.pack("<I", 4096) + b"[" * 4096, "its head is unreadable"),
    "head is a list": (lambda data: data[:8] + struct.pack("<I", 2) + b"[]" + bytes(50), "its head is unreadable"),
    "truncated": (lambda data: data[:-1], "incomplete or damaged"),
    "longer": (lambda data: data + b"x", "incomplete or damaged"),
    "a bit": (lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "its checksum is wrong"),
    "version": (lambda data: change_head(data, version=9), r"another version of this format \(9\)"),
    "model": (lambda data: change_head(data, model="00ff"), r"another model \(00ff\)"),
    "kv_type": (lambda data: change_head(data, kv_type="f64"), r"another kv_type \(f64\)"),
    "count": (lambda data: change_head(data, n_tokens=10**9), "n_tokens of this session is 1000000000"),
    "count below zero": (lambda data: change_head(data, n_tokens=-1), "n_tokens of this session is -1"),
    "count is a text": (lambda data: change_head(data, n_tokens="many"), "n_tokens of this session is 'many'"),
    "note": (lambda data: change_head(data, n_note_bytes=None), "n_note_bytes of this session is None"),
    "token": (lambda data: with_ids(data, 512), "a token outside the vocabulary"),
    "token below zero": (lambda data: with_ids(data, -1), "a token outside the vocabulary"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(model, saved, damage):
    change, sentence = DAMAGES[damage]
    saved.write_bytes(change(saved.read_bytes()))
    with model.new_session() as session:
        session.prefill([1, 2, 3])
        with pytest.raises(EdgellamaError, match=sentence) as caught:
            session.load(saved)
        assert str(saved) in str(caught.value) and "\n" not in str(caught.value)
        assert session.ids == [1, 2, 3]
        session.decode(4)


def test_files_that_cannot_be_read_or_written(model, tmp_path):
    with model.new_session() as session:
        session.prefill([1, 2, 3])
        for wrong in (tmp_path / "missing", tmp_path):
            with pytest.raises(EdgellamaError, match="the session cannot be read"):
                session.load(wrong)
        with pytest.raises(EdgellamaError, match="the session cannot be saved"):
            session.save(tmp_path / "no folder" / "chat")


def test_a_failed_save_leaves_the_old_file(model, saved, monkeypatch):
    before = saved.read_bytes()
    with model.new_session() as session, monkeypatch.context() as patch:
        session.prefill([1, 2, 3])

        def fail(*arguments):
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", fail)
        with pytest.raises(EdgellamaError, match="No space left on device"):
            session.save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_session_of_another_model_or_cache(path, synthetic_model, tmp_path):
    with edgellama.load(path, context=64) as model, model.new_session() as session:
        session.prefill([1, 2, 3])
        session.save(tmp_path / "chat")
    for other, kv_type, sentence in (
        (synthetic_model("q4_0", seed=1), "f16", "another model"),
        (path, "q8_0", "another kv_type"),
    ):
        refuse(tmp_path / "chat", sentence, edgellama.load(other, context=64, kv_type=kv_type))
    refuse(tmp_path / "chat", "n_tokens of this session is 3, and 0 to 2 are possible", edgellama.load(path, context=2))


def refuse(path, sentence: str, model) -> None:
    with model, model.new_session() as session, pytest.raises(EdgellamaError, match=sentence):
        session.load(path)
