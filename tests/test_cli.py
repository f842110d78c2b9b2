"""The command line as people meet it: child processes for exit codes and streams, a stand-in model for the rest."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from gguf_builder import ARRAY, FLOAT32, INT32, STRING, UINT32, gguf, key

from edgellama import cli
from edgellama.commands.generate import figures
from edgellama.sampling import SampleOptions
from edgellama.tokenizer import from_gguf

HEAVY = {"numpy", "numba", "llvmlite", "sentencepiece", "regex", "jinja2", "rich", "prompt_toolkit", "llguidance"}


@pytest.fixture(scope="session")
def vocabulary_file(tmp_path_factory):
    """<s> </s>, then ▁, a, b, ▁ab and the bytes of é as tokens."""
    tokens = {"<s>": 3, "</s>": 3, "▁": 1, "a": 1, "b": 1, "▁ab": 1, "é": 1, "▁a": 1}
    values = {
        "model": (STRING, "llama"),
        "tokens": (ARRAY, (STRING, list(tokens))),
        "scores": (ARRAY, (FLOAT32, [0, 0, -1, -5, -5, -2, -5, -3])),
        "token_type": (ARRAY, (INT32, list(tokens.values()))),
        "bos_token_id": (UINT32, 0),
        "eos_token_id": (UINT32, 1),
    }
    path = tmp_path_factory.mktemp("vocabulary") / "v.gguf"
    path.write_bytes(gguf([key(f"tokenizer.ggml.{name}", *value) for name, value in values.items()]))
    return path


@pytest.fixture
def edgellama(run_python):
    def run(*arguments, **options):
        return run_python("-m", "edgellama", *map(str, arguments), **options)

    return run


def pipe_in(data: bytes, *arguments, **options) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgellama", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, check=False, **options)


# Start


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in cli.COMMANDS)], ids=str
)
def test_help_imports_nothing_heavy(run_python, arguments):
    code = f"import sys\nfrom edgellama.cli import main\ntry:\n    main({arguments!r})\nexcept SystemExit as stop:\n"
    code += f"    assert not stop.code\nassert not {HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}"
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    assert "edgellama" in result.stdout


def test_help_lists_every_command(edgellama):
    result = edgellama("--help")
    assert result.returncode == 0
    for name, (_, help_line) in cli.COMMANDS.items():
        assert re.search(rf"^    {name} +{re.escape(help_line)}$", result.stdout, re.MULTILINE)


def test_version(edgellama):
    assert re.fullmatch(r"edgellama \d+\.\d+\.\d+\n", edgellama("--version").stdout)


@pytest.mark.parametrize("command", ["chat", "generate"])
def test_help_tells_the_real_defaults(edgellama, command):
    text = " ".join(edgellama(command, "--help").stdout.split())
    words = {"seed": "a new one", "logit_bias": "none", "dry_sequence_breakers": r'\n : " *'}
    for field in fields(SampleOptions):
        default = words.get(field.name, str(field.default))
        option = field.name.replace("_", "-")
        other_name = r"(, --[\w-]+)?"  # Python 3.13 shows the value once, after all names of an option
        assert re.search(rf"--{option}{other_name} [A-Z=]+[^()]*\(default: {re.escape(default)}\)", text), field.name
    assert SampleOptions().dry_sequence_breakers == ("\n", ":", '"', "*")


# Exit codes and messages


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["generate"], "required: MODEL"),
        (["generate", "m", "-p", "a", "-f", "b"], "not allowed with"),
        (["generate", "m", "-p", "a", "--threads", "0"], "--threads: must be at least 1"),
        (["generate", "m", "-p", "a", "--threads", "two"], "--threads: invalid"),
        (["generate", "m", "-p", "a", "--kv-type", "f8"], "invalid choice: 'f8'"),
        (["generate", "m", "-p", "a", "--json", "--ids"], "not allowed with"),
        (["generate", "m", "-p", "a", "--top-k", "many"], "--top-k: invalid integer value: 'many'"),
        (["generate", "m", "-p", "a", "--logit-bias", "7"], "--logit-bias: invalid ID=BIAS value: '7'"),
        (["generate", "m", "-p", "a", "--logprobs", "2"], "--logprobs needs --json"),
        (["generate", "m", "-p", "a", "--json-schema", "s", "--grammar", "g"], "not allowed with"),
        (["chat", "m", "--lines", "-p", "a"], "--lines reads standard input"),
        (["logits", "m", "-p", "a"], "required: -o"),
        (["logits", "m", "--ids", "1,x", "-o", "f"], "'1,x' is no list of token ids"),
        (["logits", "m", "--ids", "1", "-p", "a", "-o", "f"], "--ids stands in place of a text"),
        (["tokenize", "m", "-p", "a", "--ids", "--json"], "not allowed with"),
    ],
)
def test_wrong_usage(edgellama, arguments, problem):
    result = edgellama(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert problem in result.stderr
    assert re.fullmatch(r"edgellama( \w+)?: error: .*\(see edgellama( \w+)? --help\)\n", result.stderr)


def test_no_command_is_answered_with_the_help(edgellama):
    result = edgellama()
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == edgellama("--help").stdout


@pytest.mark.parametrize("command", ["chat", "generate", "inspect", "logits", "tokenize"])
@pytest.mark.parametrize(("name", "problem"), [("absent.gguf", "no such file"), ("", "is a directory")])
def test_bad_model(edgellama, tmp_path, command, name, problem):
    text = {"inspect": [], "logits": ["-p", "a", "-o", tmp_path / "out.npy"]}.get(command, ["-p", "a"])
    result = edgellama(command, tmp_path / name, *text)
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch(rf"edgellama: error: {re.escape(str(tmp_path / name))}.* {problem}.*\n", result.stderr)


def test_no_model_at_all(edgellama, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader")
    result = edgellama("tokenize", path, "-p", "a")
    assert result.returncode == 2
    assert re.fullmatch(r"edgellama: error: .*letter\.txt.*no GGUF file.*\n", result.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no terminals to open like this")
def test_terminal_without_a_text_is_wrong_usage(vocabulary_file):
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "edgellama", "tokenize", str(vocabulary_file)]
    result = subprocess.run(command, stdin=follower, capture_output=True, text=True, timeout=60, check=False)
    os.close(leader)
    os.close(follower)
    assert result.returncode == 2
    assert "a text is needed" in result.stderr


def test_errors_of_the_operating_system_are_one_sentence(monkeypatch, capsys):
    def fail(error):
        def run(arguments):
            raise error

        monkeypatch.setattr(cli, "_run", run)
        return cli.main([]), capsys.readouterr().err

    assert fail(OSError(28, "No space left on device", "x.npy")) == (
        1,
        "edgellama: error: x.npy: No space left on device\n",
    )
    assert fail(FileNotFoundError(2, "No such file or directory", "x")) == (
        2,
        "edgellama: error: x: No such file or directory\n",
    )
    assert fail(OSError("odd")) == (1, "edgellama: error: odd\n")
    assert fail(KeyboardInterrupt()) == (130, "")


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
def test_nobody_reads_the_output(vocabulary_file):
    command = [sys.executable, "-m", "edgellama", "tokenize", str(vocabulary_file), "-p", "a b " * 20_000]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


# tokenize


def test_tokenize_forms(edgellama, vocabulary_file):
    assert edgellama("tokenize", vocabulary_file, "-p", "ab aé").stdout.splitlines() == [
        "      0  '<s>'",
        "      5  ' ab'",
        "      7  ' a'",
        "      6  'é'",
    ]
    assert edgellama("tokenize", vocabulary_file, "-p", "ab", "--ids").stdout == "0 5\n"
    assert edgellama("tokenize", vocabulary_file, "-p", "ab", "--ids", "--no-special").stdout == "5\n"
    assert edgellama("tokenize", vocabulary_file, "-p", "</s>ab", "--ids", "--parse-special").stdout == "0 1 5\n"
    found = json.loads(edgellama("tokenize", vocabulary_file, "-p", "ab aé", "--json").stdout)
    assert found == {"ids": [0, 5, 7, 6], "pieces": ["<s>", " ab", " a", "é"]}


def test_text_from_file_and_pipe(vocabulary_file, tmp_path):
    path = tmp_path / "text"
    path.write_bytes("ab é".encode())
    for arguments, data in (["-f", path], b""), (["-f", "-"], path.read_bytes()), (["-p", "-"], path.read_bytes()):
        result = pipe_in(data, "tokenize", vocabulary_file, "--ids", *arguments)
        assert (result.returncode, result.stdout.split()) == (0, b"0 5 2 6".split())
    assert pipe_in(path.read_bytes(), "tokenize", vocabulary_file, "--ids").stdout.split() == b"0 5 2 6".split()


def test_text_that_cannot_be_read(vocabulary_file, tmp_path):
    result = pipe_in(b"ab\xff", "tokenize", vocabulary_file)
    assert result.returncode == 2
    assert result.stderr.decode().strip() == "edgellama: error: standard input is no UTF-8 text: byte 2 is 0xFF"
    result = pipe_in(b"", "tokenize", vocabulary_file, "-f", tmp_path / "absent")
    assert result.returncode == 2
    assert "edgellama: error: cannot read" in result.stderr.decode()
    assert result.stderr.decode().count("\n") == 1


def test_terminal_that_lacks_characters(vocabulary_file):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = pipe_in("é".encode(), "tokenize", vocabulary_file, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].split() == [b"6", b"'?'"]


# generate and logits with a stand-in model: what the commands ask for and what they print


class StandInAnswer:
    """ "ab é" in three pieces; somebody presses Ctrl-C after `stop_after` of them."""

    context_full, logprobs = False, ()

    def __init__(self, model, ids):
        self.model, self.ids, self.text, self.finish_reason = model, [], "", None
        self.stats = SimpleNamespace(
            prompt_tokens=len(ids), prompt_seconds=0.5, generated_tokens=3, generate_seconds=0.25, seed=11, ids=self.ids
        )
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()

    def __iter__(self):
        for index in (5, 2, 6):
            if len(self.ids) == self.model.stop_after:
                signal.raise_signal(signal.SIGINT)
                assert self.cancelled.wait(10)
                self.finish_reason = "cancelled"
                return
            self.ids.append(index)
            piece = self.model.tokenizer.piece_bytes(index).decode()
            self.text += piece
            yield piece
        self.finish_reason = "length"


class StandInModel:
    """Continues every text with "ab é", and remembers how it was asked."""

    def __init__(self, path, **options):
        self.tokenizer = from_gguf(path)
        self.load_options = options
        self.closed = False
        self.stop_after = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.closed = True

    def generate(self, ids, **options):
        self.prompt_ids, self.sample_options = ids, options
        return StandInAnswer(self, ids)

    def logits(self, ids):
        self.prompt_ids = ids
        return np.arange(len(ids) * 8, dtype=np.float32).reshape(len(ids), 8)


@pytest.fixture
def stand_in(monkeypatch, vocabulary_file, capsys):
    """Run a command in this process; returns its exit code, stdout, stderr and the model it used."""
    import edgellama

    def run(command, *arguments, stop_after=None):
        models = []

        def load(path, progress, **options):
            assert progress is None  # standard error is no terminal
            models.append(StandInModel(path, **options))
            models[0].stop_after = stop_after
            return models[0]

        monkeypatch.setattr(edgellama, "load", load, raising=False)
        code = cli.main([command, str(vocabulary_file), *map(str, arguments)])
        assert models[0].closed
        return code, *capsys.readouterr(), models[0]

    return run


def test_generate_prints_prompt_and_text(stand_in):
    code, out, err, model = stand_in("generate", "-p", "a")
    assert (code, out) == (0, "a ab é\n")
    assert err == "prefill 2 tokens 4.0 tok/s · decode 3 tokens 12.0 tok/s · seed 11\n"
    assert model.prompt_ids == [0, 7]
    assert model.sample_options == {"max_tokens": 256}
    assert model.load_options == {"sequences": 0}


def test_generate_forms_of_output(stand_in):
    assert stand_in("generate", "-p", "a", "--no-prompt", "-q")[1:3] == (" ab é\n", "")
    assert stand_in("generate", "-p", "a", "--ids", "-q")[1:3] == ("5 2 6\n", "")
    code, out, err, model = stand_in("generate", "-p", "a", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        **{"model": str(model.tokenizer.vocabulary.path), "prompt": "a", "text": " ab é"},
        **{"finish_reason": "length", "context_full": False},
        **{"prompt_tokens": 2, "prompt_seconds": 0.5, "generated_tokens": 3, "generate_seconds": 0.25, "seed": 11},
        "ids": [5, 2, 6],
    }


def test_generate_hands_options_on(stand_in):
    arguments = (
        "-n 9 --temperature 0.5 --top-k 3 --top-p 0.4 --min-p 0.1 --repeat-penalty 1.2 --repeat-last-n 8 --seed 5"
        " --logit-bias 4=-inf --logit-bias 5+1.5 --dry-sequence-breaker \\n --dry-sequence-breaker ."
        " --dynatemp-range 0.1 --stop a\\nb --on-full shift"
    )
    running = "--threads 2 --context 99 --kv-type q8_0 --no-repack --device cpu"
    model = stand_in("generate", "-p", "a", *arguments.split(), *running.split())[3]
    assert model.sample_options == {
        **{"max_tokens": 9, "temperature": 0.5, "top_k": 3, "top_p": 0.4, "min_p": 0.1},
        **{"repeat_penalty": 1.2, "repeat_last_n": 8, "seed": 5, "dynamic_temperature_range": 0.1},
        **{"logit_bias": {4: float("-inf"), 5: 1.5}, "dry_sequence_breakers": ("\n", ".")},
        **{"stop": ["a\nb"], "on_full": "shift"},
    }
    assert model.load_options == {
        "threads": 2,
        "context": 99,
        "kv_type": "q8_0",
        "repack": False,
        "device": "cpu",
        "sequences": 0,
    }


def test_generate_prompt_from_file(stand_in, tmp_path):
    path = tmp_path / "prompt"
    path.write_bytes(b"ab\r\n")
    assert stand_in("generate", "-f", path)[1] == "ab ab é\n"
    assert stand_in("generate", "-f", path)[3].prompt_ids == [0, 5]
    assert stand_in("generate", "-p", "</s>", "--parse-special")[3].prompt_ids == [0, 1]


def test_generate_stopped(stand_in):
    code, out, err, _ = stand_in("generate", "-p", "a", stop_after=1)
    assert (code, out) == (130, "a ab\n")
    assert "seed 11" in err
    code, out, _, _ = stand_in("generate", "-p", "a", "--json", stop_after=0)
    assert code == 130
    assert json.loads(out)["finish_reason"] == "cancelled"
    assert stand_in("generate", "-p", "a", "--ids", stop_after=2)[:2] == (130, "5 2\n")


def test_progress_line_comes_late_and_goes(monkeypatch, capsys):
    from edgellama.commands import progress

    monkeypatch.setattr(progress.system, "is_terminal", lambda stream: True)
    with progress.progress_line() as report:
        report("packing", 1, 4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_PATIENCE_SECONDS", 0)
    with progress.progress_line() as report:
        report("packing weights", 1, 4)
        report("packing", 0, 0)
    lines = capsys.readouterr().err.split("\r")
    assert lines[1:3] == [
        "packing weights [#####...............]  25%",
        "packing [####################] 100%".ljust(43),
    ]
    assert set(lines[3]) == {" "}
    assert lines[4] == ""


def test_figures_without_time():
    stats = SimpleNamespace(prompt_tokens=1, prompt_seconds=0.0, generated_tokens=0, generate_seconds=0.0, seed=3)
    assert figures(stats) == "prefill 1 tokens · decode 0 tokens · seed 3"


def test_form_of_the_text(stand_in, tmp_path):
    (tmp_path / "schema").write_text('{"type": "integer"}')
    (tmp_path / "grammar").write_text('root ::= "é"')
    assert stand_in("generate", "-p", "a", "--json-schema", tmp_path / "schema")[3].sample_options == {
        "max_tokens": 256,
        "json_schema": {"type": "integer"},
    }
    assert stand_in("generate", "-p", "a", "--grammar", tmp_path / "grammar")[3].sample_options == {
        "max_tokens": 256,
        "grammar": 'root ::= "é"',
    }


@pytest.mark.parametrize(
    ("option", "text", "problem"),
    [
        ("--json-schema", None, "cannot read .*: No such file or directory"),
        ("--json-schema", "{,}", "is no JSON: .*"),
        ("--json-schema", "[" * 100_000, "is no JSON: .*"),
        ("--grammar", None, "cannot read .*: No such file or directory"),
    ],
)
def test_files_of_options_that_cannot_be_read(edgellama, vocabulary_file, tmp_path, option, text, problem):
    path = tmp_path / "form"
    if text is not None:
        path.write_text(text)
    result = edgellama("generate", vocabulary_file, "-p", "a", option, path)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(rf"edgellama: error: .*{problem}\n", result.stderr)


def test_logits_file(stand_in, tmp_path):
    path = tmp_path / "out.npy"
    code, out, _, model = stand_in("logits", "--ids", "3,4,5", "-o", path)
    assert (code, out, model.prompt_ids) == (0, "", [3, 4, 5])
    written = np.load(path)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, np.arange(24).reshape(3, 8))
    assert stand_in("logits", "-p", "ab", "-o", path)[3].prompt_ids == [0, 5]
    assert np.load(path).shape == (2, 8)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.npy"]


def test_logits_file_that_cannot_be_written(stand_in, tmp_path):
    code, _, err, _ = stand_in("logits", "--ids", "3", "-o", tmp_path / "absent" / "out.npy")
    assert code == 2
    assert re.fullmatch(r"edgellama: error: cannot write .*out\.npy: .+\n", err)


# The whole program


def test_generate_with_a_model(edgellama, synthetic_model):
    model = synthetic_model("q4_0")
    first = edgellama("generate", model, "-p", "Once", "-n", 12, "--seed", 3)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Once")
    assert re.fullmatch(
        r"prefill \d+ tokens \d+\.\d tok/s · decode 12 tokens \d+\.\d tok/s · seed 3", first.stderr.splitlines()[-1]
    )
    assert edgellama("generate", model, "-p", "Once", "-n", 12, "--seed", 3).stdout == first.stdout
    ids = edgellama("generate", model, "-p", "Once", "-n", 12, "--seed", 3, "--ids", "-q")
    assert len(ids.stdout.split()) <= 12
    assert ids.stderr == ""


def test_greedy_text_is_the_largest_logit(edgellama, synthetic_model, tmp_path):
    model = synthetic_model("q8_0")
    ids = edgellama("generate", model, "-p", "Once", "-n", 4, "--temperature", 0, "--ids").stdout.split()
    prompt = edgellama("tokenize", model, "-p", "Once", "--ids").stdout.split()
    path = tmp_path / "logits.npy"
    result = edgellama("logits", model, "--ids", ",".join([*prompt, *ids]), "-o", path)
    assert result.returncode == 0, result.stderr
    logits = np.load(path)
    assert logits.shape[0] == len(prompt) + len(ids)
    assert logits[len(prompt) - 1 : -1].argmax(axis=1).tolist() == [int(index) for index in ids]


@pytest.mark.parametrize(("option", "value"), [("--temperature", "-1"), ("--top-p", "2"), ("--min-p", "nan")])
def test_option_out_of_range(edgellama, synthetic_model, option, value):
    result = edgellama("generate", synthetic_model("q4_0"), "-p", "Once", "-n", 1, option, value)
    assert result.returncode == 2
    assert f"{option[2:].replace('-', '_')} must be a number" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole consoles")
def test_ctrl_c(synthetic_model):
    command = [sys.executable, "-m", "edgellama", "generate", str(synthetic_model("q4_0")), "-p", "Once"]
    command += ["-n", "1000000", "--temperature", "0"]
    # A short pipe holds the program up until the signal is there, however fast it is.
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0, "pipesize": 4096}
    with subprocess.Popen(command, **pipes) as process:
        begin = b""
        while len(begin) <= len("Once"):
            begin += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.endswith(b"\n")
    assert re.fullmatch(r"prefill .* decode .* seed \d+\n", err.decode())
