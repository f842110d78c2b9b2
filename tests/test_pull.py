"""Pulling models from a hub on this machine that behaves like the real one, and worse."""

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fake_hub
import pytest
from fake_hub import COMMIT, TOKEN, FakeHub, answer_status, corrupt, drop_after, ignore_range
from gguf_builder import F32, INT32, STRING, UINT16, gguf, key, llama_file, llama_keys, tensor

from edgellama import cli, device, placement, system

REPOSITORY = "owner/Tiny-GGUF"
Q4, Q8 = "tiny.Q4_K_M.gguf", "tiny.Q8_0.gguf"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    fake = FakeHub()
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", fake.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging-face"))
    monkeypatch.setenv("EDGELLAMA_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path / "cache"))
    device.save_settings(device.DeviceSettings(read_bytes_per_second=2e10))  # so that nothing is measured here
    monkeypatch.setattr("edgellama.models.web.FIRST_WAIT_SECONDS", 0.001)
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def model_bytes(synthetic_model):
    """A model that runs: 40 kB to 1 MB."""
    return synthetic_model("q8_0").read_bytes()


@pytest.fixture
def run(hub, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


def store_files() -> dict[str, bytes]:
    """What the store holds under names, by path; temporary files would show here."""
    root = system.models_folder()
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def is_one_sentence(text: str) -> bool:
    return text.startswith("edgellama") and text.count("\n") == 1 and "Traceback" not in text and "SECRET" not in text


# The good case


def test_a_pulled_model_is_stored_whole_and_runs(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes, "README.md": b"# Tiny"})
    code, out, _ = run("pull", REPOSITORY)
    assert code == 0
    root, digest = system.models_folder(), hashlib.sha256(model_bytes).hexdigest()
    stored = store_files()
    assert sorted(stored) == [f".blobs/sha256-{digest}", f"{REPOSITORY}/{Q8}", f"{REPOSITORY}/{Q8}.json"]
    assert stored[f"{REPOSITORY}/{Q8}"] == stored[f".blobs/sha256-{digest}"] == model_bytes
    assert json.loads(stored[f"{REPOSITORY}/{Q8}.json"])["commit"] == COMMIT
    assert "llama, " in out and "tokens/s" in out and f"edgellama chat {REPOSITORY}:Q8_0" in out
    code, out, _ = run("inspect", f"{REPOSITORY}:q8_0", "--json")
    assert code == 0 and json.loads(out)["path"] == str(root / REPOSITORY / Q8)


def test_names_work_in_load(hub, run, model_bytes, monkeypatch):
    import edgellama

    hub.add(REPOSITORY, **{Q8: model_bytes})
    assert run("pull", REPOSITORY)[0] == 0
    monkeypatch.delenv("EDGELLAMA_CACHE")  # where compiled kernels are
    with edgellama.load(f"{REPOSITORY}:Q8_0", threads=1, repack=False) as model:
        assert model.file.path == system.models_folder() / REPOSITORY / Q8


def test_the_speed_is_bandwidth_over_the_weights_that_a_token_reads(hub, run, model_bytes, synthetic_model):
    from edgellama.gguf import open_gguf

    with open_gguf(synthetic_model("q8_0")) as file:
        sizes = {name: tensor.n_bytes for name, tensor in file.tensors.items()}
    read = sum(sizes.values()) - (sizes["token_embd.weight"] if "output.weight" in sizes else 0)
    hub.add(REPOSITORY, **{Q8: model_bytes})
    run("pull", REPOSITORY)
    code, out, _ = run("show", REPOSITORY, "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["tokens_per_second"] == pytest.approx(2e10 / read)
    assert facts["weight_bytes"] == sum(sizes.values()) and facts["problem"] is None


def test_the_speed_of_memory_is_measured_once(hub, monkeypatch):
    from edgellama.commands import memory_speed

    device.save_settings(device.DeviceSettings(decode_threads=3))
    measured = []
    monkeypatch.setattr(memory_speed, "_measure", lambda n_threads: measured.append(n_threads) or 1.5e10)
    assert [memory_speed.read_bytes_per_second() for _ in range(2)] == [1.5e10, 1.5e10]
    assert measured == [placement.default_thread_count()] and device.load_settings().decode_threads == 3


def test_memory_is_not_faster_than_light(hub):
    from edgellama.commands import memory_speed

    assert 1e8 < memory_speed._measure(1) < 1e13


def test_dry_run_gets_the_header_only(hub, run):
    data = llama_file()
    data += bytes((8 << 20) - len(data))
    hub.add(REPOSITORY, **{Q8: data})
    code, out, _ = run("pull", REPOSITORY, "--dry-run")
    assert code == 0 and "8.4 MB" in out
    assert hub.sent_ranges() == [f"bytes=0-{(1 << 20) - 1}"]
    assert store_files() == {}


def test_a_long_header_is_fetched_in_growing_parts(hub, run, model_bytes):
    words = [f"word{index}" * 10 for index in range(40_000)]
    data = gguf(llama_keys(**{"tokenizer.ggml.tokens": (9, (8, words))}), [tensor("a", (64,), 0, 0)], bytes(256))
    hub.add(REPOSITORY, **{Q8: data + bytes(10 << 20)})
    _, out, _ = run("pull", REPOSITORY, "--dry-run")
    assert hub.sent_ranges() == [f"bytes=0-{(1 << 20) - 1}", f"bytes={1 << 20}-{(4 << 20) - 1}"]
    assert "this version cannot run it: tensor 'token_embd.weight' is missing" in " ".join(out.split())


def test_a_header_that_ends_just_past_what_was_fetched_is_fetched_to_its_end(hub, run):
    """All but the last four bytes of the last row: zeros in their place would be believed."""

    def header(n_fill: int) -> bytes:
        fill = key("fill", STRING, "x" * n_fill)
        return gguf([*llama_keys(), fill], [tensor("a", (64,), F32, 0)], bytes(2 << 20), alignment=1)

    unpadded = len(header(0)) - (2 << 20)
    data = header((1 << 20) + 4 - unpadded)
    hub.add(REPOSITORY, **{Q8: data})
    run("pull", REPOSITORY, "--dry-run")
    assert len(hub.sent_ranges()) == 2


def test_a_second_pull_asks_for_no_file(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    run("pull", REPOSITORY)
    hub.requests.clear()
    code, out, _ = run("pull", REPOSITORY)
    assert code == 0 and "is here already" in out
    assert [request.path for request in hub.requests] == [f"/api/models/{REPOSITORY}/revision/main?blobs=true"]


def test_a_file_outside_lfs_is_checked_by_its_git_digest(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.without_lfs.add(Q8)
    assert run("pull", REPOSITORY)[0] == 0
    git = hashlib.sha1(b"blob %d\0" % len(model_bytes) + model_bytes).hexdigest()
    assert store_files()[f".blobs/git-{git}"] == model_bytes


def split_files() -> dict[str, bytes]:
    """A llama in three parts, too few tensors to run."""
    parts = {}
    for index in range(3):
        keys = llama_keys() if index == 0 else []
        keys += [key("split.no", UINT16, index), key("split.count", UINT16, 3), key("split.tensors.count", INT32, 3)]
        name = f"Q8_0/m-Q8_0-{index + 1:05d}-of-00003.gguf"
        parts[name] = gguf(keys, [tensor(f"t{index}", (64,), F32, 0)], bytes([index]) * 256)
    return parts


def test_split_models_come_together(hub, run):
    hub.add(REPOSITORY, **split_files())
    code, out, err = run("pull", f"{REPOSITORY}:Q8_0", "--yes")
    assert code == 0, err
    assert "in 3 files" in out
    code, out, _ = run("inspect", f"{REPOSITORY}:Q8_0", "--json")
    assert code == 0 and {entry["file_index"] for entry in json.loads(out)["tensors"]} == {0, 1, 2}
    assert run("rm", REPOSITORY)[0] == 0
    assert store_files() == {} and not (system.models_folder() / "owner").exists()


# Which file


def test_the_best_known_type_is_the_default(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes, Q4: llama_file(), "mmproj-f16.gguf": b"x", "tiny.Q2_K.gguf": b"x"})
    _, out, _ = run("pull", REPOSITORY, "--dry-run")
    assert out.startswith(f"{REPOSITORY}:Q4_K_M\n")
    _, out, _ = run("pull", f"{REPOSITORY}:q8_0", "--dry-run")
    assert out.startswith(f"{REPOSITORY}:Q8_0\n")
    _, out, _ = run("pull", f"{REPOSITORY}:{Q8}", "--dry-run")
    assert out.startswith(f"{REPOSITORY}:Q8_0\n")


def test_what_lies_beside_a_model_is_none(hub, run):
    hub.add(REPOSITORY, **{"mmproj-f16.gguf": b"x", "tiny.F16.gguf": llama_file(), "imatrix-f16.gguf": b"x"})
    _, out, err = run("pull", f"{REPOSITORY}:f16", "--dry-run")
    assert out.startswith(f"{REPOSITORY}:F16\n"), err


@pytest.mark.parametrize("choice", [":Q5_K_M", ":Q4_K", ":other.gguf"])
def test_what_is_not_there_lists_what_is(hub, run, choice):
    hub.add(REPOSITORY, **{Q4: bytes(1500), Q8: bytes(3_000_000), "mmproj-f16.gguf": b"x"})
    code, out, err = run("pull", REPOSITORY + choice)
    assert code == 2 and out == "" and "mmproj" not in err
    assert re.search(rf"{REPOSITORY}:Q4_K_M +1\.5 kB\n +{REPOSITORY}:Q8_0 +3\.0 MB\n", err)


def test_a_type_that_means_two_files_lists_both(hub, run):
    hub.add(REPOSITORY, **{"a.Q8_0.gguf": b"x", "b.Q8_0.gguf": b"y", Q4: b"z"})
    code, _, err = run("pull", f"{REPOSITORY}:Q8_0")
    assert code == 2 and f"{REPOSITORY}:a.Q8_0.gguf" in err and f"{REPOSITORY}:b.Q8_0.gguf" in err and Q4 not in err


def test_a_split_model_with_a_missing_part_is_none(hub, run):
    hub.add(REPOSITORY, **{"a-Q8_0-00001-of-00002.gguf": b"x"})
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and "has no GGUF file" in err


BAD_NAMES = [
    "tiny",
    "a/b/c",
    "../../etc",
    "owner/..",
    "/abs/x",
    "-o/x",
    "own\0er/x",
    "owner/x:",
    "owner/x:../y.gguf",
    "con/x",
]
BAD_NAMES += [
    "owner/nul.y",
    "owner/x:/abs.gguf",
    "owner/x:a//b.gguf",
    "owner/x:-f.gguf",
    "owner/x:aux.gguf",
    "owner/x:a b",
]
BAD_NAMES += [
    "owner/x:C:\\y.gguf",
    "owner/a--b",
    "owner/" + "x" * 97,
    "öwner/x",
    "owner/x?y=z",
    "owner/x\n",
    "owner/x%2e",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_of_another_form_are_refused_before_any_request(hub, run, name):
    code, _, err = run("pull", "--", name)
    assert code == 2 and is_one_sentence(err), err
    assert hub.requests == [] and store_files() == {}


HOSTILE_PATHS = ["../up.Q8_0.gguf", "/abs.gguf", "a/../b.gguf", "-dash.gguf", "nul\0.gguf", "con.gguf", ".hidden.gguf"]
HOSTILE_PATHS += ["back\\slash.gguf", "C:x.gguf", "a/./b.gguf", "trail./x.gguf", "new\nline.gguf"]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_hostile_names_of_files_are_not_seen(hub, run, path):
    hub.add(REPOSITORY, **{path: llama_file()})
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and "has no GGUF file" in err
    assert store_files() == {}


# The hub says no


def test_a_missing_repository(hub, run):
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and is_one_sentence(err) and f"no repository {REPOSITORY}" in err
    assert not system.models_folder().exists()


def test_a_private_repository_needs_a_token(hub, run, monkeypatch, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.private.add(REPOSITORY)
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and is_one_sentence(err) and "HF_TOKEN" in err
    monkeypatch.setenv("HF_TOKEN", "hf_anotherSECRET")
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and is_one_sentence(err) and "conditions" in err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert run("pull", REPOSITORY)[0] == 0


def test_the_token_file_of_the_hubs_own_tools_is_read(hub, run, model_bytes, tmp_path):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.private.add(REPOSITORY)
    (tmp_path / "hugging-face").mkdir()
    (tmp_path / "hugging-face" / "token").write_text(TOKEN + "\n")
    assert run("pull", REPOSITORY)[0] == 0


@pytest.mark.parametrize("token", ["SECRET\r\nX-Evil: 1", "SECRET two words", "SECRETé", "SECRET" * 200])
def test_a_token_that_is_none_is_not_sent_and_not_shown(hub, run, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and is_one_sentence(err) and hub.requests == []


def test_the_token_goes_to_the_endpoint_only(hub, run, monkeypatch, model_bytes):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add(REPOSITORY, **{Q8: model_bytes})
    code, out, err = run("pull", REPOSITORY)
    assert code == 0
    assert hub.roles(with_token=True) == {"hub"} and hub.roles(with_token=False) == {"cdn"}
    assert "SECRET" not in out + err
    assert not any(b"SECRET" in data for name, data in store_files().items() if name.endswith(".json"))


def test_the_token_does_not_come_back_from_another_host(hub, run, monkeypatch, model_bytes):
    """The host that files come from redirects to the hub again: that is not the endpoint's word."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.tricks.append(lambda handler, data: handler.send(302, Location=f"{hub.url}/{REPOSITORY}/resolve/{COMMIT}/{Q8}"))
    assert run("pull", REPOSITORY)[0] == 0
    resolved = [r for r in hub.requests if r.role == "hub" and "/resolve/" in r.path]
    assert ["Authorization" in request.headers for request in resolved] == [True, True, False]


def test_another_name_of_this_machine_is_another_host(hub, run, monkeypatch, model_bytes):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add(REPOSITORY, **{Q8: model_bytes})
    localhost = hub.url.replace("127.0.0.1", "localhost")
    hub.api_tricks.append(lambda handler, data: handler.send(307, Location=localhost + handler.path))
    assert run("pull", REPOSITORY)[0] == 0
    api = [request for request in hub.requests if request.path.startswith("/api/")]
    assert ["Authorization" in request.headers for request in api] == [True, False]


def test_a_renamed_repository_keeps_the_token(hub, run, monkeypatch, model_bytes):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.private.add(REPOSITORY)
    hub.api_tricks.append(lambda handler, data: handler.send(307, Location=handler.path))
    assert run("pull", REPOSITORY)[0] == 0


UNSAFE_PLACES = [
    "http://example.com/x",
    "ftp://127.0.0.1/x",
    "file:///etc/passwd",
    "//example.com/x",
    "http://user:SECRET@127.0.0.1/",
]
UNSAFE_PLACES += ["http://127.0.0.1.example.com/x", "http://[", "", "http://10.0.0.1/x"]


@pytest.mark.parametrize("location", UNSAFE_PLACES)
def test_redirects_to_unsafe_places_are_refused(hub, run, model_bytes, location):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.location = location
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and is_one_sentence(err), err
    assert "redirects" in err and store_files() == {}


def test_redirect_loops_end(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.location = hub.url + f"/{{repository}}/resolve/{COMMIT}/{{path}}"
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and is_one_sentence(err) and "redirects more than" in err
    assert len(hub.requests) < 12


UNSAFE_ENDPOINTS = ["http://example.com", "ftp://127.0.0.1", "https://user:SECRET@example.com", "huggingface.co"]
UNSAFE_ENDPOINTS += ["https://[x", "https://x/?a=b", "https://x:99999", "https://", "http://127.0.0.1.example.com"]


@pytest.mark.parametrize("endpoint", UNSAFE_ENDPOINTS)
def test_unsafe_endpoints_are_refused(hub, run, endpoint):
    code, _, err = run("pull", REPOSITORY, "--endpoint", endpoint)
    assert code == 2 and is_one_sentence(err), err


@pytest.mark.parametrize("trick", [answer_status(429, Retry_After="0"), answer_status(503), answer_status(500)])
def test_a_busy_hub_is_asked_again(hub, run, model_bytes, trick):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.api_tricks += [trick] * 2
    hub.tricks += [trick] * 2
    assert run("pull", REPOSITORY)[0] == 0


def test_a_hub_that_stays_busy_is_given_up(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.api_tricks += [answer_status(503)] * 50
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and is_one_sentence(err) and "503" in err and len(hub.requests) == 6


def test_a_long_wait_is_not_waited_for(hub, run):
    hub.add(REPOSITORY, **{Q8: b"x"})
    hub.api_tricks.append(answer_status(429, Retry_After="3600"))
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and "asks to wait 3600 seconds" in err and len(hub.requests) == 1


def test_no_server_at_all(hub, run):
    for host in ("http://127.0.0.1:9", "https://" + "a" * 70 + ".invalid"):
        code, _, err = run("pull", REPOSITORY, "--endpoint", host)
        assert code == 1 and is_one_sentence(err) and host.partition("//")[2][:9] in err


MALFORMED = [b"", b"{", b"null", b"[]", b"<html>", b'{"sha": 5, "siblings": []}', b'{"sha": "main"}', b"[" * 100_000]
MALFORMED += [b'{"sha": "abc", "siblings": [{}]}', b'{"sha": "../x", "siblings": []}', b"\xff\xfe"]
MALFORMED += [
    json.dumps({"sha": COMMIT, "siblings": [{"rfilename": Q8, "size": 5, "blobId": "x"} | change]}).encode()
    for change in (
        {"lfs": {"size": -1, "sha256": "0" * 64}}, {"lfs": {"size": 1 << 60, "sha256": "0" * 64}}, {},
        {"lfs": {"size": 5, "sha256": "../" * 21 + "x"}}, {"lfs": {"size": "5", "sha256": "0" * 64}}, {"lfs": [1]},
    )
]  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_descriptions(hub, run, data):
    hub.add(REPOSITORY, **{Q8: b"x"})
    hub.api_tricks += [lambda handler, _: handler.send(200, data)]
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and is_one_sentence(err), err
    assert store_files() == {}


def test_a_huge_description_is_not_read_to_its_end(hub, run):
    hub.add(REPOSITORY, **{Q8: b"x"})

    def endless(handler, data):
        handler.send(200, length=-1)
        for _ in range(200):
            handler.wfile.write(b" " * (1 << 20))

    hub.api_tricks.append(endless)
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and is_one_sentence(err) and "16 MiB" in err


# Downloads that go wrong


def test_a_dropped_connection_goes_on_where_it_broke(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    third = len(model_bytes) // 3
    hub.tricks += [drop_after(third), drop_after(third)]
    assert run("pull", REPOSITORY)[0] == 0
    assert hub.sent_ranges()[1:] == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert [r.headers.get("If-Range") for r in hub.requests if r.role == "cdn"][2:] == [fake_hub.etag(model_bytes)] * 2


def test_a_server_that_ignores_ranges_sends_the_file_anew(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.tricks += [drop_after(1000), ignore_range]
    assert run("pull", REPOSITORY)[0] == 0
    assert store_files()[f"{REPOSITORY}/{Q8}"] == model_bytes


def test_a_part_is_not_continued_with_another_version(hub, run, model_bytes):
    """The server has other bytes now, under another ETag: If-Range makes it send all."""
    hub.add(REPOSITORY, **{Q8: model_bytes})

    def drop_old(handler, data):
        fake_hub.drop_after(1000)(handler, data[::-1])

    hub.tricks.append(drop_old)
    assert run("pull", REPOSITORY)[0] == 0
    assert store_files()[f"{REPOSITORY}/{Q8}"] == model_bytes


def test_an_etag_that_changes_in_a_partial_answer_starts_anew(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.tricks += [drop_after(1000), lambda handler, data: fake_hub.send_right(handler, data, ETag='"other"')]
    assert run("pull", REPOSITORY)[0] == 0
    assert hub.sent_ranges()[1:] == [None, "bytes=1000-", None]


def test_a_connection_that_always_breaks_is_given_up_and_the_part_kept(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.tricks += [drop_after(100)] * 50
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and is_one_sentence(err), err
    stored = store_files()
    assert [name for name in stored if not name.startswith(".downloads/")] == []
    hub.tricks.clear()
    assert run("pull", REPOSITORY)[0] == 0
    assert hub.sent_ranges()[-1] == "bytes=600-"


BAD_ANSWERS = {
    "length too long": lambda handler, data: fake_hub.send_right(handler, data, length=len(data) + 5),
    "length too short": lambda handler, data: fake_hub.send_right(handler, data, length=len(data) - 5),
    "more bytes than promised": lambda handler, data: handler.send(200, data + b"more", length=-1),
    "range that was not asked for": lambda handler, data: handler.send(206, data[9:], Content_Range="bytes 9-99/100"),
    "range without its header": lambda handler, data: handler.send(206, data),
    "range beyond all numbers": lambda handler, data: handler.send(
        206, data, Content_Range=f"bytes 0-{'9' * 5000}/{'9' * 5000}"
    ),
    "malformed range": lambda handler, data: handler.send(206, data, Content_Range="bytes x-y/z"),
    "range of a longer file": lambda handler, data: handler.send(
        206, data, Content_Range=f"bytes 0-{len(data) - 1}/{len(data) + 1}"
    ),
    "corrupt bytes": corrupt,
    "compressed": lambda handler, data: handler.send(200, data, Content_Encoding="gzip"),
}


@pytest.mark.parametrize("trick", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_bad_answers_leave_no_file_under_a_name(hub, run, model_bytes, trick):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    hub.tricks += [trick] * 50
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and is_one_sentence(err), err
    assert [name for name in store_files() if not name.startswith(".downloads/")] == []
    hub.tricks.clear()
    assert run("pull", REPOSITORY)[0] == 0
    assert store_files()[f"{REPOSITORY}/{Q8}"] == model_bytes


def test_a_body_without_end_is_not_read_to_its_end(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    n_sent = []

    def endless(handler, data):
        handler.send(200, data, length=-1)
        for _ in range(200):
            handler.wfile.write(bytes(1 << 20))
            n_sent.append(1)

    hub.tricks.append(endless)
    code, _, err = run("pull", REPOSITORY)
    assert code == 1 and is_one_sentence(err) and "sends more than" in err and len(n_sent) < 50


def test_a_full_disk_is_named_with_the_file(hub, run, monkeypatch, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edgellama.models.download._receive", fail)
    code, _, err = run("pull", REPOSITORY)
    part = system.models_folder() / ".downloads" / f"sha256-{hashlib.sha256(model_bytes).hexdigest()}"
    assert (code, err) == (1, f"edgellama: error: {part}: {os.strerror(errno.ENOSPC)}\n")


def test_a_damaged_part_is_thrown_away_once(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    folder = system.models_folder() / ".downloads"
    folder.mkdir(parents=True)
    (folder / f"sha256-{hashlib.sha256(model_bytes).hexdigest()}").write_bytes(b"damaged" * 100)
    assert run("pull", REPOSITORY)[0] == 0
    assert hub.sent_ranges()[1:] == ["bytes=700-", None]


@pytest.mark.parametrize("cut", [0, 3, 50])
def test_a_header_that_is_no_gguf_ends_it(hub, run, cut):
    hub.add(REPOSITORY, **{Q8: b"<html>no such thing</html>" * 100 if cut == 0 else llama_file()[:cut]})
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and is_one_sentence(err) and f"error: {Q8}: " in err
    assert store_files() == {}


# What does not fit, or does not run


def test_an_unknown_architecture_is_said_before_the_download(hub, run):
    data = llama_file(**{"general.architecture": (8, "mamba9")})
    hub.add(REPOSITORY, **{Q8: data})
    code, out, err = run("pull", REPOSITORY)
    assert code == 2 and "no architecture is called 'mamba9'" in " ".join(out.split()) and "--yes" in err
    assert store_files() == {} and len(hub.sent_ranges()) == 1
    assert run("pull", REPOSITORY, "--yes")[0] == 0


def test_an_unknown_tensor_type_is_said_before_the_download(hub, run):
    hub.add(REPOSITORY, **{Q8: gguf(llama_keys(), [tensor("a", (64,), 77, 0)], bytes(9000))})
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and is_one_sentence(err) and "unknown type 77" in err and len(hub.sent_ranges()) == 1


@pytest.mark.parametrize(("name", "part"), [("available_memory_bytes", "memory"), ("free_disk_bytes", "disk")])
def test_what_does_not_fit_needs_a_yes(hub, run, monkeypatch, model_bytes, name, part):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    monkeypatch.setattr(system, name, lambda *_: 1000)
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and is_one_sentence(err) and part in err and "--yes" in err
    assert store_files() == {}
    assert run("pull", REPOSITORY, "--yes")[0] == 0


@pytest.mark.parametrize(("typed", "code"), [("y", 0), ("n", 2), ("", 2)])
def test_a_person_is_asked(hub, run, monkeypatch, model_bytes, typed, code):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    monkeypatch.setattr(system, "available_memory_bytes", lambda: 1000)
    monkeypatch.setattr(system, "is_terminal", lambda stream: stream is sys.stdin)
    monkeypatch.setattr("builtins.input", lambda prompt: typed)
    assert run("pull", REPOSITORY)[0] == code
    assert bool(store_files()) == (code == 0)


# Stopping and going on


def start_pull() -> subprocess.Popen:
    command = [sys.executable, "-m", "edgellama", "pull", REPOSITORY]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def stall_after(n_bytes: int, release: threading.Event) -> fake_hub.Trick:
    """Send so many bytes, and the rest when told."""

    def trick(handler, data):
        handler.send(200, data[:n_bytes], length=len(data), ETag=fake_hub.etag(data))
        handler.wfile.flush()
        release.wait(30)
        handler.wfile.write(data[n_bytes:])

    return trick


def wait_for_part(n_bytes: int) -> Path:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        parts = [path for path in (system.models_folder() / ".downloads").glob("*") if not path.suffix]
        if any(path.is_file() and path.stat().st_size >= n_bytes for path in parts):
            return next(path for path in parts if path.is_file())
        time.sleep(0.02)
    raise AssertionError("nothing arrived")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_pull_goes_on(hub, run, model_bytes, number):
    data = model_bytes + bytes(-len(model_bytes) % 4) + b"more" * 200_000
    hub.add(REPOSITORY, **{Q8: data})
    release = threading.Event()
    hub.tricks.append(stall_after(600_000, release))
    child = start_pull()
    part = wait_for_part(1 << 19)
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    release.set()
    assert child.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert number == signal.SIGKILL or "goes on from there" in err
    assert [name for name in store_files() if not name.startswith(".downloads/")] == []
    kept = part.stat().st_size
    code, out, _ = run("list")
    assert code == 0 and "Unfinished downloads" in out
    code, out, _ = run("pull", REPOSITORY)
    assert code == 0 and "of it are here" in out
    assert hub.sent_ranges()[-1] == f"bytes={kept}-"
    assert store_files()[f"{REPOSITORY}/{Q8}"] == data


def test_two_pulls_at_once_do_not_meet(hub, run, model_bytes):
    data = model_bytes + b"more" * 200_000
    hub.add(REPOSITORY, **{Q8: data})
    release = threading.Event()
    hub.tricks.append(stall_after(600_000, release))
    child = start_pull()
    wait_for_part(1 << 19)
    code, _, err = run("pull", REPOSITORY)
    assert code == 2 and is_one_sentence(err) and "another program is downloading" in err
    assert run("rm", "--unfinished")[0] == 0  # leaves alone what is being downloaded
    release.set()
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert store_files()[f"{REPOSITORY}/{Q8}"] == data


# The store


def test_list_and_rm(hub, run, model_bytes):
    code, out, _ = run("list")
    assert code == 0 and "edgellama pull" in out
    other = llama_file()
    hub.add(REPOSITORY, **{Q8: model_bytes, Q4: other})
    hub.add("someone/Copy-GGUF", **{Q8: model_bytes})
    for name in (f"{REPOSITORY}:Q8_0", "someone/Copy-GGUF"):
        assert run("pull", name)[0] == 0
    assert run("pull", f"{REPOSITORY}:Q4_K_M", "--yes")[0] == 0
    code, out, _ = run("list")
    assert [line.split()[0] for line in out.splitlines()] == [
        f"{REPOSITORY}:Q4_K_M", f"{REPOSITORY}:Q8_0", "someone/Copy-GGUF:Q8_0",
    ]  # fmt: skip
    code, out, _ = run("list", "--json")
    assert [model["n_bytes"] for model in json.loads(out)["models"]] == [len(other), len(model_bytes), len(model_bytes)]
    code, _, err = run("rm", REPOSITORY)
    assert code == 2 and "several" in err
    code, out, _ = run("rm", f"{REPOSITORY}:Q8_0")
    assert code == 0 and "0 B freed" in out
    assert store_files()[f"someone/Copy-GGUF/{Q8}"] == model_bytes
    code, out, _ = run("rm", "someone/Copy-GGUF", f"{REPOSITORY}:Q4_K_M")
    assert code == 0 and store_files() == {}


@pytest.mark.parametrize("command", ["chat", "generate", "inspect", "tokenize", "show", "rm"])
def test_a_name_that_was_not_pulled_says_how_to(hub, run, command):
    text = [] if command in ("inspect", "show", "rm") else ["-p", "a"]
    code, _, err = run(command, f"{REPOSITORY}:Q4_K_M", *text)
    assert code == 2 and is_one_sentence(err) and f"`edgellama pull {REPOSITORY}:Q4_K_M`" in err


def test_a_path_stays_a_path(hub, run, tmp_path, monkeypatch, model_bytes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "Tiny-GGUF").write_bytes(model_bytes)
    assert run("inspect", REPOSITORY)[0] == 0
    code, _, err = run("inspect", "owner/missing.gguf")
    assert code == 2 and "no such file" in err and "pull" not in err


def test_a_damaged_manifest_is_named(hub, run):
    folder = system.models_folder() / REPOSITORY
    folder.mkdir(parents=True)
    for text in ("{", "[]", '{"version": 1}', json.dumps({"version": 1, "repository": "../..", "files": []})):
        (folder / f"{Q8}.json").write_text(text)
        code, _, err = run("list")
        assert code == 2 and is_one_sentence(err) and f"{Q8}.json: is damaged" in err


def test_a_manifest_cannot_lead_out_of_the_store(hub, run, tmp_path):
    folder = system.models_folder() / REPOSITORY
    folder.mkdir(parents=True)
    file = {"path": "../../../victim.gguf", "n_bytes": 1, "digest": "sha256-" + "0" * 64}
    values = {"version": 1, "repository": REPOSITORY, "commit": "c", "endpoint": "e", "pulled": "p"}
    (folder / f"{Q8}.json").write_text(json.dumps(values | {"files": [file | {"path": Q8}, file]}))
    (tmp_path / "victim.gguf").write_bytes(b"precious")
    assert run("rm", REPOSITORY)[0] == 2
    assert (tmp_path / "victim.gguf").read_bytes() == b"precious"


def test_a_manifest_in_another_place_is_damaged(hub, run):
    hub.add(REPOSITORY, **{Q8: llama_file()})
    run("pull", REPOSITORY, "--yes")
    other = system.models_folder() / "someone" / "else"
    other.mkdir(parents=True)
    (other / f"{Q8}.json").write_bytes((system.models_folder() / REPOSITORY / f"{Q8}.json").read_bytes())
    code, _, err = run("rm", "someone/else")
    assert code == 2 and "is damaged" in err and f"{REPOSITORY}/{Q8}" in store_files()


def test_a_blob_that_was_cut_is_fetched_again(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: model_bytes})
    run("pull", REPOSITORY)
    (system.models_folder() / REPOSITORY / Q8).resolve().write_bytes(b"cut")
    assert run("pull", REPOSITORY)[0] == 0
    assert store_files()[f"{REPOSITORY}/{Q8}"] == model_bytes


def test_a_new_version_replaces_the_old_one(hub, run, model_bytes):
    hub.add(REPOSITORY, **{Q8: llama_file()})
    assert run("pull", REPOSITORY, "--yes")[0] == 0
    hub.add(REPOSITORY, **{Q8: model_bytes})
    assert run("pull", REPOSITORY)[0] == 0
    stored = store_files()
    assert stored[f"{REPOSITORY}/{Q8}"] == model_bytes
    assert len([name for name in stored if name.startswith(".blobs/")]) == 1


@pytest.mark.parametrize("columns", [10, 25, 40, 80, 200])
def test_the_bar_fits(columns):
    from edgellama.commands.download_bar import bar_line

    for rate in (None, 0.0, 1.0, 12.5e6):
        line = bar_line("getting", 123_456_789, 637_800_000, rate, columns)
        assert len(line) <= columns and "19%" in line
    assert "0:41 left" in bar_line("getting", 123_456_789, 637_800_000, 12.5e6, 100)


def test_the_rule_for_proxies(hub, run, monkeypatch, model_bytes):
    """This machine is never asked through a proxy, which would see the token."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    hub.add(REPOSITORY, **{Q8: model_bytes})
    assert run("pull", REPOSITORY)[0] == 0


def test_https_goes_through_the_proxy_of_the_environment(hub, run, monkeypatch):
    """The tunnel is asked for by name, and no token is in the request for it."""
    seen = []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("https_proxy", hub.cdn_url)

    def do_connect(handler):
        seen.append((handler.path, dict(handler.headers)))
        handler.send(407)

    monkeypatch.setattr(fake_hub.Handler, "do_CONNECT", do_connect, raising=False)
    code, _, err = run("pull", REPOSITORY, "--endpoint", "https://hub.example")
    assert code == 1 and is_one_sentence(err) and "407" in err
    assert seen[0][0] == "hub.example:443" and "Authorization" not in seen[0][1]
