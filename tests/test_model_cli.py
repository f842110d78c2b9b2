"""`edgellama generate` and `edgellama logits` in processes of their own, on a small trained model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from model_files import with_tensor, without_tensor

from bench.perturb import copy_model

BEGIN = "Once upon a time"
GREEDY = ("--temperature", "0", "--kv-type", "f32")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into pipes and processes as Linux lets it")


@pytest.fixture(scope="module")
def model(shared_data) -> Path:
    return shared_data / "trained" / "stories260K" / "f32.gguf"


@pytest.fixture(scope="module")
def story(model) -> str:
    return (model.parent / "expected_story.txt").read_text()


def run(*arguments, text: str = "", **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellama", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False, **options)


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
    assert found["finish_reason"] in ("stop", "length")


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
        (["generate", "-p", "a", "--threads", "256"], "threads must be an integer from 1 to 255"),
        (["generate", "-p", "a", "--device", "tpu"], "there is no device 'tpu'"),
        (["generate", "-p", "a", "--gpu-layers", "2"], "layers on a GPU need --device cuda"),
        (["generate", "-p", "a " * 600], "do not fit into the context of 512"),
        (["logits", "--ids", "512", "-o", "x.npy"], "token id 512 is out of range: 0 to 511"),
        (["logits", "--ids", "99999999999999999999", "-o", "x.npy"], "token ids must be integers"),
        (["logits", "-p", "a " * 600, "-o", "x.npy"], "do not fit into the context of 512"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_in_one_sentence(model, tmp_path, arguments, problem):
    call = run(arguments[0], model, *arguments[1:], cwd=tmp_path)
    assert call.returncode == 2
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
    for path, problem in (missing, "is missing"), (short, "has shape (63, 64)"), (cut, "and the file has"):
        call = run(command, path, "-p", "a", *(("-o", tmp_path / "x.npy") if command == "logits" else ()))
        assert call.returncode == 2
        assert call.stderr.startswith(f"edgellama: error: {path}")
        assert problem in call.stderr
        assert call.stderr.count("\n") == 1


# Stopped from outside


@linux_only
def test_ctrl_c_keeps_the_text(model, story):
    read_end, write_end = nearly_full_pipe(room=200)
    command = [sys.executable, "-m", "edgellama", "generate", str(model), *GREEDY, "-p", BEGIN]
    with subprocess.Popen(command, stdout=write_end, stderr=subprocess.PIPE) as process:
        os.close(write_end)
        wait_until_stuck(read_end)
        process.send_signal(signal.SIGINT)
        with open(read_end, "rb") as pipe:
            text = pipe.read().lstrip(b"#").decode()
        err = process.stderr.read().decode()
    assert process.returncode == 130
    assert text.startswith(BEGIN + ",")
    assert text.endswith("\n")
    assert story.startswith(text[:-1])
    assert "decode" in err
    assert "Traceback" not in err


@linux_only
def test_ctrl_c_while_it_waits_for_a_prompt(model):
    command = [sys.executable, "-m", "edgellama", "generate", str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not reads_its_input(process.pid):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


def nearly_full_pipe(room: int) -> tuple[int, int]:
    """The ends of a pipe that takes `room` more bytes: whoever writes more has to wait for the reader."""
    import fcntl

    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write_end, b"#" * (fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ) - room))
    return read_end, write_end


def wait_until_stuck(read_end: int) -> None:
    """Until something has been written to a nearly full pipe, and no more follows."""
    first = waiting_bytes(read_end)
    before, now = -1, first
    while now == first or now != before:
        time.sleep(0.1)
        before, now = now, waiting_bytes(read_end)


def waiting_bytes(read_end: int) -> int:
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(read_end, termios.FIONREAD, bytes(4)), sys.byteorder)


def reads_its_input(process: int) -> bool:
    """Whether a process sleeps in read(0, …), whose number is 0 on x86-64 and 63 on other machines."""
    try:
        call = Path(f"/proc/{process}/syscall").read_text().split()
    except PermissionError:
        pytest.skip("this system does not tell in which call a process is")
    return call[0] in ("0", "63") and call[1] == "0x0"


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
@pytest.mark.parametrize("form", [(), ("--ids",), ("--json",)], ids=str)
def test_nobody_reads_the_text(model, form):
    command = [sys.executable, "-m", "edgellama", "generate", str(model), *GREEDY, "-p", "", *form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read().count(b"Traceback") == 0
        assert process.wait(timeout=60) == 141
