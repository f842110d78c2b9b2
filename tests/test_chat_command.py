"""`edgellama chat` without a person: pipes and files, in child processes, with a real model and a made-up one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAKE_CHAT = Path(__file__).with_name("fake_chat.py")
EDGELLAMA = ("-m", "edgellama")
STATUS = (
    r"prefill \d+(?: \(\d+ cached\))? \d+(?:\.\d)? tok/s · decode \d+ \d+(?:\.\d)? tok/s · ctx \d+/\d+\s+(?:· )?\d+ MB"
)


def run(program, *arguments, text: str | bytes = "", **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, program), "chat", *map(str, arguments)]
    data = text if isinstance(text, bytes) else text.encode()
    done = subprocess.run(command, input=data, capture_output=True, timeout=120, check=False, **options)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def model(shared_data) -> Path:
    return shared_data / "trained" / "stories260K" / "f32.gguf"


@pytest.fixture
def fake(synthetic_model):
    def chat(*arguments, **options):
        return run([FAKE_CHAT], synthetic_model("q4_0"), *arguments, **options)

    return chat


# Streams


def test_whole_input_is_one_message(fake):
    done = fake(text="one\ntwo\n")
    assert (done.returncode, done.stdout) == (0, "You said: one\ntwo\n")
    assert re.search(rf"^this file has no chat template: .*\n.*\n{STATUS}\n$", done.stderr)


def test_lines_are_messages(fake):
    done = fake("--lines", "-q", text="one\n\n messages \r\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "You said: one\nuser: one | assistant: You said: one | user: messages\n"


def test_message_on_the_command_line(fake, tmp_path):
    assert fake("-p", "hello", "-q").stdout == "You said: hello\n"
    (tmp_path / "message").write_text("from a file\n")
    assert fake("-f", tmp_path / "message", "-q").stdout == "You said: from a file\n"
    assert fake("-p", "-", "-q", text="from a pipe").stdout == "You said: from a pipe\n"
    assert fake("-p", "messages", "-q", "--system", "Be brief.").stdout == "system: Be brief. | user: messages\n"


def test_a_pipe_gets_what_the_model_wrote(fake):
    assert fake("-p", "attack", "-q").stdout == "\x1b]0;owned\x07\x1b[2J\x9b31msafe\r\nend\n"
    assert fake("-p", "markdown", "-q", "--markdown").stdout.startswith("# Title\n\nSome *stressed* words.\n")


def test_function_calls_are_json(fake, tmp_path):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    (tmp_path / "tools").write_text(json.dumps(tools))
    done = fake("-p", "weather", "-q", "--tools", tmp_path / "tools")
    text, call = done.stdout.splitlines()
    assert text == "You said: weather"
    assert json.loads(call)["function"]["name"] == "weather"


def test_cut_answers_say_so(fake):
    done = fake("-p", "slow", "-n", 2, "-q")
    assert (done.stdout, done.stderr) == ("word0 word1 \n", "cut after 2 tokens (max-tokens)\n")
    assert "cut: the context is full;" in fake("-p", "full", "-q").stderr


def test_nothing_but_the_answer_is_imported(run_python, synthetic_model):
    code = f"import sys\nsys.argv[1:] = ['chat', {str(synthetic_model('q4_0'))!r}, '-p', 'hello', '-q']\n"
    code += f"sys.path.insert(0, {str(FAKE_CHAT.parent)!r})\nimport fake_chat\nassert fake_chat.main() == 0\n"
    code += "assert not {'rich', 'prompt_toolkit', 'llguidance'} & {name.split('.')[0] for name in sys.modules}"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole consoles")
def test_ctrl_c_ends_the_answer(synthetic_model):
    command = [sys.executable, str(FAKE_CHAT), "chat", str(synthetic_model("q4_0")), "-p", "slow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(len("word0 word1 ")) == b"word0 word1 "
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - begin < 5
    assert process.returncode == 130
    assert out.endswith(b"\n") and b"Traceback" not in err
    assert b"stopped\n" in err


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
def test_nobody_reads_the_answer(synthetic_model):
    command = [sys.executable, str(FAKE_CHAT), "chat", str(synthetic_model("q4_0")), "-p", "slow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(timeout=60) == 141


# Errors


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-p", ""], "the message is empty"),
        ([], "the message is empty"),
        (["-f", "absent"], "cannot read absent: No such file or directory"),
        (["-p", "a", "--tools", "absent"], "cannot read absent: No such file or directory"),
        (["-p", "a", "--tools", "object.json"], "tools must be a list of functions in OpenAI's shape"),
        (["-p", "a", "--json-schema", "broken.json"], "broken.json is no JSON"),
        (["-p", "a", "--json-schema", "schema.json"], "schema.json: type must be"),
        (["-p", "a", "--grammar", "broken.json"], "broken.json: line 1: "),
        (["-p", "a", "--load", "absent"], "absent: the session cannot be read: No such file or directory"),
        (["-p", "a", "--load", "broken.json"], "broken.json: is no session file"),
        (["-p", "a", "--template", "nonsense"], "there is no chat template 'nonsense'"),
        (["-p", "a", "--temperature", "-1"], "temperature must be a number from 0.0 to 100.0"),
        (["-p", "a", "--context", "513"], "the context must be 1 to 512 positions for this model"),
        (["-p", "a " * 600], "and the context holds 512"),
        (["-p", "a", "--logit-bias", "600=1"], "logit_bias names token 600"),
        (["--lines"], "line 2 of standard input is no UTF-8 text"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_refused_in_one_sentence(model, tmp_path, arguments, problem):
    (tmp_path / "object.json").write_text('{"type": "object"}')
    (tmp_path / "schema.json").write_text('{"type": 5}')
    (tmp_path / "broken.json").write_text("[1,")
    text = b"a\n\xff\n" if arguments == ["--lines"] else b""
    done = run(EDGELLAMA, model, *arguments, "-q", "-n", 1, text=text, cwd=tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith("cut after 1 tokens")]
    assert len(errors) == 1
    assert errors[0].startswith("edgellama: error: ")


# A trained model


def test_answers_of_a_trained_model(model):
    options = ("--temperature", 0, "--kv-type", "f32", "-n", 40, "--template", "plain")
    done = run(EDGELLAMA, model, *options, "-p", "Once upon a time")
    story = (model.parent / "expected_story.txt").read_text()
    assert done.returncode == 0
    assert story.startswith("Once upon a time" + done.stdout.rstrip("\n"))
    assert re.search(rf"^cut after 40 tokens \(max-tokens\)\n{STATUS}\n$", done.stderr, re.MULTILINE)


def test_second_turn_uses_the_cache(model):
    done = run(EDGELLAMA, model, "--lines", "-n", 20, "--template", "chatml", text="Who is Lily?\nWhy?\n")
    first, second = re.findall(r"prefill (\d+)(?: \((\d+) cached\))?", done.stderr)
    assert first[1] == "" and int(second[1]) >= int(first[0])


def test_schema_and_grammar(model, tmp_path):
    schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}}}
    schema |= {"required": ["age"], "additionalProperties": False}
    (tmp_path / "schema").write_text(json.dumps(schema))
    done = run(EDGELLAMA, model, "-p", "A person", "-q", "--seed", 1, "--json-schema", tmp_path / "schema")
    assert 0 <= json.loads(done.stdout)["age"] <= 150
    (tmp_path / "grammar").write_text('root ::= "yes" | "no"')
    done = run(EDGELLAMA, model, "-p", "Is it?", "-q", "--seed", 1, "--grammar", tmp_path / "grammar")
    assert done.stdout in ("yes\n", "no\n")


def test_full_context(model):
    done = run(EDGELLAMA, model, "-p", "Once upon a time", "-q", "--context", 64, "--seed", 1)
    assert done.returncode == 0
    assert done.stderr.startswith("cut: the context is full;")
    lines = "Once upon a time\n" * 4
    done = run(EDGELLAMA, model, "--lines", "-n", 20, "-q", "--context", 64, "--on-full", "shift", text=lines)
    assert (done.returncode, done.stdout.count("\n") >= 4) == (0, True)
    assert "oldest messages no longer count (on-full shift)" in " ".join(done.stderr.split())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_real_conversation_at_a_terminal(model, tmp_path, monkeypatch):
    """Through the real conversation: an answer, Ctrl-C in the middle of one, /retry, /undo, /save and /load."""
    from test_chat_terminal import CTRL_C, CTRL_D, PROMPT, Terminal

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    program = (*EDGELLAMA, "chat", str(model))
    chat = Terminal("--template", "chatml", "--temperature", "0", program=program)
    status = STATUS.replace(r"\d+ MB", r"\d+ MB\n")
    chat.see("context 512 · template chatml \\(built-in\\)\n")
    chat.enter("/set max-tokens 12")
    chat.enter("Who is Lily?")
    first = chat.see("\ncut after 12 tokens").split("\n")[-2]
    chat.enter("/retry")
    assert first and chat.see("\ncut after 12 tokens").split("\n")[-2] == first
    chat.enter("/save story.chat")
    chat.see("saved: story.chat\n")
    chat.enter("/undo")
    chat.see("taken back: Who is Lily\\?\n")
    chat.enter("/load story.chat")
    chat.see("loaded: story.chat, 2 messages\n  user: Who is Lily\\?\n  assistant: ")
    chat.enter("/set max-tokens none")
    chat.enter("/set on-full shift")
    chat.enter("And then?")
    chat.see("\\w+ \\w+")
    chat.press(CTRL_C)
    chat.see("\nstopped\n")
    assert re.search(r"prefill \d+ \(\d+ cached\)", chat.see(status))
    chat.see(PROMPT)
    chat.press(CTRL_D)
    assert chat.exit_code() == 0
    assert sorted(os.listdir(tmp_path)) == ["edgellama", "story.chat"]
