"""`edgellama convert` in processes of its own, and the runtime on what it wrote."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from checkpoint_files import CONFIG, payload_pickle, tensors_of, torch_archive, write_hugging_face

from edgellama.gguf import open_gguf

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="stops a process as Linux lets it")


def run(*arguments, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellama", "convert", *map(str, arguments)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False, **options
    )


@pytest.fixture
def source(tmp_path) -> Path:
    return write_hugging_face(tmp_path / "c", CONFIG, tensors_of(CONFIG), "BF16")


def test_convert_and_generate(shared_data, tmp_path):
    folder = shared_data / "trained" / "stories260K"
    call = run(folder, "-o", tmp_path / "out.gguf", "--type", "F32", "--threads", 2)
    assert (call.returncode, call.stderr) == (0, "")
    assert call.stdout.startswith(f"{tmp_path / 'out.gguf'}: 47 tensors, 1.0 MiB, in ")
    command = [
        sys.executable,
        "-m",
        "edgellama",
        "logits",
        tmp_path / "out.gguf",
        "-p",
        "Once",
        "-o",
        tmp_path / "x.npy",
    ]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_options(source, tmp_path):
    call = run(source, "-o", "out.gguf", "--name", "Tiny", "--context", 32, "--json", cwd=tmp_path)
    assert call.returncode == 0, call.stderr
    answer = json.loads(call.stdout)
    assert answer["output"] == "out.gguf" and answer["architecture"] == "llama" and answer["notes"] == []
    assert answer["tensors"][0] == {
        "name": "token_embd.weight",
        "type": "f16",
        "shape": [300, 48],
        "bytes": 28800,
        "source": "model.embed_tokens.weight",
        "source_type": "bf16",
    }
    with open_gguf(tmp_path / "out.gguf") as file:
        assert (file.get("general.name", str), file.get("llama.context_length", int)) == ("Tiny", 32)


def test_dry_run(source, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    call = run(source, "--dry-run", "--type", "q8_0")
    assert (call.returncode, call.stderr) == (0, "")
    lines = call.stdout.splitlines()
    assert "llama.embedding_length = 48" in lines
    assert lines[-1].startswith("21 tensors, ")
    (row,) = [line.split() for line in lines if line.startswith("blk.1.attn_norm.weight")]
    assert row[1:] == ["f32", "48", "192", "model.layers.1.input_layernorm.weight"]
    assert sorted(tmp_path.rglob("*")) == before


def test_notes_go_to_stderr(tmp_path):
    config = CONFIG | {"model_type": "mistral", "sliding_window": 16}
    source = write_hugging_face(tmp_path / "c", config, tensors_of(config))
    call = run(source, "-o", tmp_path / "out.gguf")
    assert call.returncode == 0
    assert call.stderr.startswith("note: attention reaches back 16 positions") and call.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent", "-o", "x.gguf"], "absent: no such file or folder"),
        (["c"], "-o"),
        (["c", "-o", "x.gguf", "--type", "q3"], "'q3'"),
        (["c", "-o", "absent/x.gguf"], "absent/x.gguf: its folder does not exist"),
        (["c", "-o", "x.gguf", "--context", "0"], "at least 1"),
        (["c", "-o", "x.gguf", "--tokenizer", "absent"], "absent"),
        (["c", "-o", "x.gguf", "--pre-tokenizer", "nonsense"], "'nonsense'"),
    ],
)
def test_what_cannot_be_done(source, tmp_path, arguments, words):
    call = run(*arguments, cwd=tmp_path)
    assert call.returncode == 2 and call.stdout == ""
    assert words in call.stderr and call.stderr.count("\n") == 1 and "Traceback" not in call.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_type_that_needs_an_importance_matrix(tmp_path):
    config = CONFIG | {"hidden_size": 256, "num_hidden_layers": 1}
    source = write_hugging_face(tmp_path / "c", config, tensors_of(config))
    call = run(source, "-o", tmp_path / "x.gguf", "--type", "iq2_xxs")
    assert call.returncode == 2 and "--imatrix" in call.stderr and call.stderr.count("\n") == 1


def test_pickle_with_a_payload(source, tmp_path):
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(torch_archive(payload_pickle(os.system, f"touch {tmp_path / 'ran'}")))
    call = run(source, "-o", tmp_path / "out.gguf")
    assert call.returncode == 2 and "nothing of it was run" in call.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_help_is_light(run_python):
    code = (
        "import sys\nfrom edgellama.cli import main\n"
        "try:\n    main(['convert', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'numpy', 'gguf', 'converters', 'quant', 'numba'} & {m.split('.')[0] for m in sys.modules}"
    )
    call = run_python("-c", code)
    assert call.returncode == 0, call.stderr


# A conversion that takes long enough to be stopped: its writer waits after every chunk

SLOW = """
import sys, time
from converters import partial_file, writer
partial_file._SYNC_BYTES, writer._CHUNK_VALUES = 20_000, 2_000
encoded = writer.encoded
writer.encoded = lambda *arguments: (time.sleep(0.05), encoded(*arguments))[1]
from edgellama.cli import main
sys.exit(main(["convert", *sys.argv[1:]]))
"""


def slow(source: Path, target: Path, *more: str) -> list[str]:
    return ["-c", SLOW, str(source), "-o", str(target), "--threads", "1", *more]


@linux_only
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_resumed(source, tmp_path, stop):
    target = tmp_path / "out.gguf"
    process = subprocess.Popen([sys.executable, *slow(source, target)], stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out.gguf.partial.json"
    while not journal.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else -stop)
    assert ("--resume goes on with" in errors) == (stop == signal.SIGINT) and "Traceback" not in errors
    assert not target.exists()
    assert run(source, "-o", target, "--resume").returncode == 0
    assert run(source, "-o", tmp_path / "whole.gguf").returncode == 0
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "out.gguf", "whole.gguf"]


@linux_only
def test_progress_on_a_terminal(source, tmp_path):
    child = pexpect.spawn(sys.executable, slow(source, tmp_path / "out.gguf"), dimensions=(24, 100), timeout=60)
    child.expect(r"converting, \d+ MiB/s, \d+ s left \[#+\.*\] +\d+%")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "21 tensors" in child.before.decode()
