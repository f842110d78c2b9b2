"""`edgellama generate` and `edgellama logits` in processes of their own, on a small trained model."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from model_files import with_tensor, without_tensor

from bench.perturb import copy_model

BEGIN = "Once upon a time"
GREEDY = ("--temperature", "0", "--kv-type", "f32")


@pytest.fixture(scope="module")
def model(shared_data) -> Path:
    return shared_data / "trained" / "stories260K" / "f32.gguf"


@pytest.fixture(scope="module")
def story(model) -> str:
    return (model.parent / "expected_story.txt").read_text()


def run(*arguments, text: str = "", **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellama", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False, **options)


def started(*arguments) -> subprocess.Popen:
    """A process whose output goes through a short pipe, which holds it up until somebody reads."""
    command = [sys.executable, "-m", "edgellama", *map(str, arguments)]
    size = {"pipesize": 4096} if sys.platform == "linux" else {}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **size)


def test_prompt_as_argument_file_and_pipe(model, story, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text(BEGIN + "\n")
    calls = [
        run("generate", model, *GREEDY, "-n", 40, "-p", BEGIN),
        run("generate", model, *GREEDY, "-n", 40, "-f", path),
        run("generate", model, *GREEDY, "-n", 40, text=BEGIN + "\n"),
        run("generate", model, *GREEDY, "-n", 40, "-p", "-", text=BEGIN),
    ]
    for call in calls:
        assert call.returncode == 0, call.stderr
        assert call.stdout.startswith(BEGIN)
        assert story.startswith(call.stdout.rstrip("\n"))
        assert "40 tokens" in call.stderr


def test_whole_story_as_json(model, story):
    call = run("generate", model, *GREEDY, "-p", "", "--json")
    assert call.returncode == 0, call.stderr
    found = json.loads(call.stdout)
    assert found["prompt"] + found["text"].lstrip(" ") == story
    assert len(found["ids"]) == found["generated_tokens"] == 256
    assert found["prompt_tokens"] == 1
    assert found["interrupted"] is False


def test_ids_match_the_logits(model, tmp_path):
    with np.load(model.parent / "expected_story.npz") as expected:
        ids, logits = expected["ids"], expected["logits"]
    text = run("generate", model, *GREEDY, "-p", "", "--ids", "-q")
    assert [1, *map(int, text.stdout.split())] == ids.tolist()
    path = tmp_path / "logits.npy"
    call = run("logits", model, "--kv-type", "f32", "--ids", ",".join(map(str, ids)), "-o", path)
    assert (call.returncode, call.stdout, call.stderr) == (0, "", "")
    assert np.abs(np.load(path) - logits).max() < 1e-3


def test_logits_of_a_piped_text(model, tmp_path):
    path = tmp_path / "logits.npy"
    call = run("logits", model, "-o", path, "--threads", 1, text=BEGIN)
    assert call.returncode == 0, call.stderr
    ids = run("tokenize", model, "-p", BEGIN, "--ids").stdout.split()
    assert np.load(path).shape == (len(ids), 512)


# Errors


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["generate", "-p", "a", "--context", "513"], "the context must be 1 to 512 positions for this model"),
        (["generate", "-p", "a", "--threads", "256"], "threads must be 1 to 255"),
        (["generate", "-p", "a", "--device", "cuda"], "device must be 'cpu'"),
        (["generate", "-p", "a " * 600], "do not fit into the context of 512"),
        (["logits", "--ids", "512", "-o", "x.npy"], "token id 512 is out of range: 0 to 511"),
        (["logits", "--ids", "99999999999999999999", "-o", "x.npy"], "token ids must be integers"),
        (["logits", "-p", "a " * 600, "-o", "x.npy"], "do not fit into the context of 512"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_in_one_sentence(model, tmp_path, arguments, problem):
    call = run(arguments[0], model, *arguments[1:], cwd=tmp_path)
    assert call.returncode == 1
    assert call.stdout.strip() in ("", ("a " * 600).strip())
    assert call.stderr.startswith("edgellama: error: ")
    assert problem in call.stderr
    assert call.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["generate", "logits"])
def test_files_that_do_not_fit(model, tmp_path, command):
    missing = copy_model(model, tmp_path / "missing.gguf", without_tensor("blk.4.ffn_down.weight"))
    short = copy_model(model, tmp_path / "short.gguf", with_tensor("blk.0.attn_q.weight", lambda values: values[:-1]))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:-4096])
    for path, problem in (missing, "is missing"), (short, "has shape (63, 64)"), (cut, "past the end"):
        call = run(command, path, "-p", "a", *(("-o", tmp_path / "x.npy") if command == "logits" else ()))
        assert call.returncode == 1
        assert call.stderr.startswith(f"edgellama: error: {path}")
        assert problem in call.stderr
        assert call.stderr.count("\n") == 1


# Stopped from outside


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole consoles")
def test_ctrl_c_keeps_the_text(model, story):
    with started("generate", model, *GREEDY, "-p", BEGIN) as process:
        begin = b""
        while len(begin) < len(BEGIN) + 20:
            begin += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    text = (begin + out).decode()
    # A model this small may have finished its story before the signal came.
    assert process.returncode == (0 if story.startswith(text.rstrip("\n")) and len(text) >= len(story) else 130)
    assert text.endswith("\n")
    assert story.startswith(text.rstrip("\n")) or text.startswith(story)
    assert b"Traceback" not in err
    assert b"decode" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole consoles")
def test_ctrl_c_while_it_reads_the_prompt(model):
    """Before there is any text: no traceback, and the exit code of Ctrl-C."""
    command = [sys.executable, "-m", "edgellama", "generate", str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b"Once")
        process.stdin.flush()
        while not os.path.exists(f"/proc/{process.pid}/fd/0") or not waits_for_input(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


def waits_for_input(pid: int) -> bool:
    """Whether a process sleeps in read()."""
    return Path(f"/proc/{pid}/syscall").read_text().startswith("0 ")


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
@pytest.mark.parametrize("form", [(), ("--ids",), ("--json",)], ids=str)
def test_nobody_reads_the_text(model, form):
    with started("generate", model, *GREEDY, "-p", "", *form) as process:
        process.stdout.close()
        assert process.stderr.read().count(b"Traceback") == 0
        assert process.wait(timeout=60) == 141
