"""`edgellama chat` as a person at a terminal meets it: keys go in, and what comes out is read.

The answers are made up (fake_chat.py), so that they are slow, hostile or long as a test wants.
"""

import os
import re
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect", reason="this system has no pseudo-terminals")

FAKE_CHAT = Path(__file__).with_name("fake_chat.py")
CURSOR_RIGHT = re.compile(r"\x1b\[(\d*)C")  # how prompt_toolkit writes a space on an empty line
ERASED_LINE = re.compile(r"[^\n]*\r\x1b\[K")
OTHER_SEQUENCES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z~]|\][^\x07]*\x07|[=>78])|\r(?!\Z)")
CTRL_C, CTRL_D, ALT_ENTER, TAB, UP = "\x03", "\x04", "\x1b\r", "\t", "\x1b[A"
STATUS = r"(?:^|\n)prefill 10 \(2 cached\) 123 tok/s · decode \d+ 5\.6 tok/s · ctx \d+/\d+ · \d+ MB\n"
PROMPT = r"\n>>>"
PATIENCE_SECONDS = 30


class Terminal:
    """A chat in a pseudo-terminal; `see` goes through what it shows, from the beginning on."""

    def __init__(
        self,
        *arguments: object,
        program: Sequence[str] = (str(FAKE_CHAT), "chat"),
        columns: int = 80,
        **environment: str,
    ):
        environment = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | environment
        command = [*program, *map(str, arguments)]
        self.process = pexpect.spawn(
            sys.executable, command, env=environment, dimensions=(24, columns), encoding="utf-8"
        )
        self.process.delaybeforesend = None
        self.raw = self._unseen = ""

    def press(self, keys: str) -> None:
        self.process.send(keys)

    def enter(self, line: str) -> None:
        """Wait for the prompt, type a line and send it when it stands there."""
        self.see(PROMPT)
        self.press(line)
        self.see(re.escape(line))
        self.press("\r")
        self.see("\n")

    def see(self, pattern: str) -> str:
        """Wait until a text is shown; everything from where the last one ended up to its end."""
        limit = time.monotonic() + PATIENCE_SECONDS
        while True:
            shown = as_shown(self._unseen)
            found = re.search(pattern, shown)
            if found:
                self._unseen = shown[found.end() :]
                return shown[: found.end()]
            assert time.monotonic() < limit, f"{pattern!r} is not in {shown!r}"
            self._read()

    def _read(self) -> None:
        try:
            piece = self.process.read_nonblocking(4096, timeout=0.05)
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            raise AssertionError(f"the program has ended: {as_shown(self._unseen)!r}") from None
        self.raw += piece
        self._unseen += piece

    def exit_code(self) -> int:
        self.process.expect(pexpect.EOF)
        self.process.close()
        return self.process.exitstatus


def as_shown(raw: str) -> str:
    """What is left to read of what a terminal was sent; styles and most movements are ignored."""
    text = CURSOR_RIGHT.sub(lambda found: " " * int(found[1] or 1), ERASED_LINE.sub("", raw))
    return OTHER_SEQUENCES.sub("", text)


@pytest.fixture
def open_chat(synthetic_model, tmp_path, monkeypatch):
    """Begin a chat; ends it after the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)
    opened = []

    def begin(*arguments, **options) -> Terminal:
        opened.append(Terminal(synthetic_model("q4_0"), *arguments, **options))
        return opened[-1]

    yield begin
    for terminal in opened:
        terminal.process.close(force=True)


@pytest.fixture(scope="module")
def one_chat(synthetic_model):
    terminal = Terminal(synthetic_model("q4_0"), "--no-history")
    yield terminal
    terminal.process.close(force=True)


@pytest.fixture
def chat(one_chat):
    """A new conversation in a chat that tests share, since starting one takes long."""
    one_chat.enter("/reset")
    one_chat.see("a new chat begins.*\n")
    return one_chat


def test_conversation(open_chat):
    chat = open_chat("--template", "chatml")
    header = chat.see("leaves\n")
    assert re.search(r"tiny .+ · 1\.\dM q4_0 · context 2048\s+template chatml \(built-in\)\n", header)
    chat.enter("hello there")
    assert chat.see(STATUS).startswith("You said: hello there\nprefill")
    chat.enter("日本語 👩‍👩‍👧 é")
    assert chat.see(STATUS).startswith("You said: 日本語 👩‍👩‍👧 é\n")
    chat.enter("")
    chat.enter("//etc/passwd")
    chat.see("You said: /etc/passwd\n")
    chat.enter("messages")
    assert "user: /etc/passwd | assistant: You said: /etc/passwd | user: messages" in " ".join(chat.see(STATUS).split())
    chat.see(PROMPT)
    chat.press(CTRL_D)
    assert chat.exit_code() == 0


def test_ctrl_c_ends_the_answer_and_keeps_the_chat(chat):
    chat.enter("slow")
    chat.see("word3 ")
    begin = time.monotonic()
    chat.press(CTRL_C)
    chat.see(r"word\d+\nstopped\nprefill")
    assert time.monotonic() - begin < 1
    chat.enter("messages")
    assert re.search(r"assistant: word0 word1 .* \| user: messages", " ".join(chat.see(STATUS).split()))


def test_ctrl_c_before_the_answer_changes_nothing(chat):
    chat.enter("hello")
    chat.enter("long")
    chat.see("reading the prompt: 12 tokens")
    chat.press(CTRL_C)
    chat.see("the chat is as it was before\n")
    chat.enter("messages")
    assert chat.see(STATUS).startswith("user: hello | assistant: You said: hello | user: messages\n")


def test_ctrl_c_while_typing(chat):
    chat.see(PROMPT)
    chat.press("abc")
    chat.see("abc")
    chat.press(CTRL_C)
    chat.press(CTRL_C)
    chat.see("Ctrl-D or /exit leaves\n")
    chat.press("def")
    chat.press(CTRL_C)
    chat.press("xyz\r")
    chat.see("You said: xyz\n")


def test_ctrl_c_again_and_again(chat):
    chat.enter("slow")
    chat.see("word1 ")
    for _ in range(200):
        chat.press(CTRL_C)
        time.sleep(0.002)
    chat.see("stopped\n")
    time.sleep(0.3)
    chat.press("still here\r")
    chat.see("You said: still here\n")


def test_several_lines(chat):
    for keys in (f"one{ALT_ENTER}two{ALT_ENTER}three\r", "one\\\rtwo\\\rthree\r", '"""one\rtwo\rthree"""\r'):
        chat.see(PROMPT)
        chat.press(keys)
        chat.see("You said: one\ntwo\nthree\n")


def test_pasted_lines_stay_in_the_input(chat):
    chat.see(PROMPT)
    chat.press("\x1b[200~first\nsecond\\\nthird\x1b[201~")
    chat.see("third")
    time.sleep(0.3)
    chat.press(" and more\r")
    chat.see(r"You said: first\nsecond\\\nthird and more\n")


def test_hostile_answer(chat):
    chat.enter("attack")
    assert chat.see(STATUS).startswith("␛]0;owned␇␛[2J\ufffd31msafe\nend\n")
    assert "\x1b]0" not in chat.raw and "\x9b" not in chat.raw


def test_lines_fit(open_chat):
    columns = 60
    chat = open_chat(columns=columns)
    chat.enter("words")
    shown = chat.see(r"ful\nprefill")
    assert all(len(line) < columns and not line.startswith("ul") for line in shown.split("\n"))
    assert shown.split() == ["wonderful", *["ful"] * 39, "prefill"]
    chat.enter("wide")
    lines = chat.see(r"。\nprefill").strip().split("\n")[:-1]
    assert "".join(lines) == "日本語の文章です。" * 12
    assert all(2 * len(line) < columns for line in lines)


def test_markdown(chat):
    chat.enter("/set markdown on")
    chat.enter("markdown")
    shown = chat.see(STATUS)
    assert shown.startswith(
        "# Title\n\nSome stressed words.\n\n • one\n • two\n\n```python\nx = 1\n\ny = 2\n```\n\nThe end.\n"
    )
    assert "\x1b[3mstressed" in chat.raw
    chat.enter("/set markdown off")
    chat.enter("markdown")
    assert "Some *stressed* words." in chat.see(STATUS)


# Slash commands


def test_commands_on_the_conversation(open_chat):
    chat = open_chat("--system", "Be brief.", "--no-status")
    chat.enter("hello")
    chat.see("You said: hello\n")
    chat.enter("/retry")
    chat.see("You said: hello\n")
    chat.enter("/undo")
    chat.see("taken back: hello\n")
    chat.enter("/undo")
    chat.see("error: there is nothing to take back\n")
    chat.enter("/retry")
    chat.see("error: there is no message to answer again\n")
    chat.enter("/system")
    chat.see("system message: Be brief.\n")
    chat.enter("/system Be loud.")
    chat.see("system message: Be loud.\n")
    chat.enter("one")
    chat.enter("/reset")
    chat.see("a new chat begins")
    chat.enter("messages")
    chat.see("system: Be loud. \\| user: messages\n")
    chat.enter("/system none")
    chat.see("there is no system message\n")
    chat.enter("/exit")
    assert chat.exit_code() == 0


def test_save_and_load(open_chat, tmp_path):
    chat = open_chat()
    chat.enter("hello")
    chat.enter("/save a chat.bin")
    chat.see("saved: a chat.bin\n")
    chat.enter("/save a chat.bin")
    chat.see("saved: a chat.bin\n")
    (tmp_path / "letter.txt").write_text("Dear reader")
    chat.enter("/save letter.txt/x")
    chat.see("error: letter.txt/x: Not a directory\n")
    chat.enter("/save letter.txt")
    chat.see("error: letter.txt: there is another file of this name")
    assert (tmp_path / "letter.txt").read_text() == "Dear reader"
    chat.enter("/load absent")
    chat.see("error: absent: .*No such file or directory\n")
    chat.enter("/save")
    chat.see("error: /save needs the name of a file\n")
    chat.enter("/reset")
    chat.enter("/load a chat.bin")
    chat.see("loaded: a chat.bin, 2 messages\n  user: hello\n  assistant: You said: hello\n")
    later = open_chat("--load", "a chat.bin", "--system", "Be brief.")
    later.see("loaded: a chat.bin, 3 messages\n")
    later.enter("messages")
    later.see("system: Be brief. \\| user: hello \\| assistant: You said: hello \\| user:\\s+messages\n")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("/set temperature 0.2", "temperature is 0.2\n"),
        ("/set top-p", "top-p is 0.95: among the likeliest"),
        ("/set top-p 3", "error: top_p must be a number from 0.0 to 1.0, and is 3.0\n"),
        ("/set top-k many", "error: top-k cannot be 'many'"),
        ("/set seed 5", "seed is 5\n"),
        ("/set seed random", "seed is random\n"),
        ("/set logit-bias 3=-inf 4=1.5", "logit-bias is 3=-inf 4=1.5\n"),
        (r'/set dry-sequence-breakers "a b" \n', r"dry-sequence-breakers is 'a b' '\\n'\n"),
        ("/set max-tokens 0", "error: max-tokens cannot be '0'"),
        ("/set on-full shift", "on-full is shift\n"),
        ("/set on-full burst", "error: on-full must be one of stop, shift, and is 'burst'\n"),
        ("/set status maybe", "error: status must be one of on, off"),
        ("/set tmperature 1", "error: there is no setting 'tmperature'; did you mean\n? *'temperature'"),
        ("/rety", "error: there is no command '/rety'; did you mean '/retry'\\?\n"),
        ("/usr/bin/env", "error: there is no command '/usr/bin/env'; /help lists them"),
    ],
)
def test_settings(one_chat, line, reply):
    one_chat.enter(line)
    one_chat.see(reply)


def test_max_tokens(chat):
    chat.enter("/set max-tokens 2")
    chat.enter("slow")
    chat.see(r"word1\ncut after 2 tokens \(max-tokens\)\n")
    chat.enter("/set max-tokens none")


def test_remarks(chat):
    chat.enter("full")
    chat.see("cut: the context is full; /reset, start with a larger --context, or /set\n *on-full shift\n")
    chat.enter("too long")
    chat.see("error: the conversation has 9999 tokens\n")
    chat.enter("nothing")
    chat.see("there is no answer: the chat is as it was before\n")
    chat.enter("messages")
    chat.see("user: full \\| assistant: You said: full \\| user: messages\n")


def test_help_and_statistics(chat):
    chat.enter("/help")
    shown = chat.see("//text .*slash\n")
    for name in ("help", "system", "reset", "retry", "undo", "save", "load", "set", "tools", "stats", "exit"):
        assert f"\n/{name} " in shown
    chat.enter("/set")
    shown = chat.see("tells what a setting means\n")
    for line in (r"top-k +40", r"max-tokens +none", r"dry-base +1\.75"):
        assert re.search(rf"^{line}$", shown, re.MULTILINE), line
    chat.enter("/reset")
    chat.enter("hello")
    chat.enter("/stats")
    shown = chat.see("ended by +stop\n")
    for line in ("messages +2", r"prefill +10 \(2 cached\) 123 tok/s", r"context +15 of \d+ tokens", "seed +7"):
        assert re.search(rf"^{line}$", shown, re.MULTILINE), line


# Completion and history


def test_completion(chat, tmp_path):
    chat.see(PROMPT)
    chat.press(f"/he{TAB}\r")
    chat.see("this list\n")
    chat.see("with a slash|begins with a slash\n")
    chat.see(PROMPT)
    chat.press(f"/set xtc{TAB}t{TAB}0.4\r")
    chat.see("xtc-threshold is 0.4\n")
    chat.see(PROMPT)
    chat.press(f"/set on-full sh{TAB}\r")
    chat.see("on-full is shift\n")
    (tmp_path / "some_file").write_text("EDGESESS[]")
    chat.see(PROMPT)
    chat.press(f"/load {tmp_path}/some{TAB}\r")
    chat.see("loaded: .*some_file,\\s+0 messages\n")


def test_history_is_kept_and_private(open_chat, tmp_path):
    chat = open_chat()
    chat.enter("remember me")
    chat.see("You said: remember me\n")
    path = tmp_path / "state" / "edgellama" / "chat_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    later = open_chat()
    later.see(PROMPT)
    later.press(f"{UP}\r")
    later.see("You said: remember me\n")
    before = path.read_bytes()
    secret = open_chat("--no-history")
    secret.enter("forget me")
    secret.see("You said: forget me\n")
    assert path.read_bytes() == before


# Tools

TOOLS = """[{"type": "function", "function": {"name": "weather", "description": "The weather in a city", "parameters":
{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}}}]"""


def test_tools(open_chat, tmp_path):
    path = tmp_path / "tools.json"
    path.write_text(TOOLS)
    chat = open_chat("--tools", path)
    chat.enter("/tools")
    chat.see(r"weather\(city, days\): The weather in a city\n")
    chat.enter("weather")
    chat.see(r'→ weather\(city="Oslo\\u001b\[2J", days=2\)\n')
    chat.see("result .*: ")
    chat.press("sunny\r")
    chat.see("\nYou said: sunny\n")
    chat.enter("weather")
    chat.see("result .*: ")
    chat.press("\r")
    chat.enter("messages")
    assert "tool: sunny | assistant: You said: sunny | user: weather" in " ".join(chat.see(STATUS).split())


# Terminals of other kinds


def test_dumb_terminal(open_chat):
    chat = open_chat(TERM="dumb")
    chat.enter("think")
    chat.see("thought" + STATUS)
    chat.enter("slow")
    chat.see("word2 ")
    chat.press(CTRL_C)
    chat.see("stopped\n")
    chat.enter("one\\")
    chat.press("two\n")
    chat.see("You said: one\ntwo\n")
    chat.see(PROMPT)
    chat.press("abc")
    chat.see("abc")
    chat.press(CTRL_C)
    chat.see("Ctrl-D or /exit leaves\n")
    chat.enter("/stats")
    chat.see("ended by +stop\n")
    chat.see(PROMPT)
    chat.press(CTRL_D)
    assert chat.exit_code() == 0
    assert "\x1b" not in chat.raw


def test_no_color(open_chat):
    chat = open_chat("--markdown", NO_COLOR="1")
    chat.enter("markdown")
    chat.see(STATUS)
    assert not re.search(r"\x1b\[([0-9;]*;)?(3[0-7]|9[0-7]|38;)", chat.raw)
    assert "\x1b[2mprefill" not in chat.raw


def test_keys_pressed_during_an_answer_wait(chat):
    chat.enter("think")
    time.sleep(0.2)
    chat.press("next\r")
    chat.see("thought" + STATUS)
    chat.see("\nYou said: next\n")


def test_answers_in_a_pipe_and_a_person_at_the_keys(synthetic_model, tmp_path):
    """Standard output is a file, the rest is the terminal."""
    path = tmp_path / "answers"
    command = f"'{sys.executable}' '{FAKE_CHAT}' chat '{synthetic_model('q4_0')}' --no-history > '{path}'"
    chat = Terminal.__new__(Terminal)
    chat.process = pexpect.spawn("/bin/sh", ["-c", command], dimensions=(24, 80), encoding="utf-8")
    chat.raw = chat._unseen = ""
    chat.enter("hello")
    chat.see(STATUS)
    chat.enter("attack")
    chat.see(STATUS)
    chat.see(PROMPT)
    chat.press(CTRL_D)
    assert chat.exit_code() == 0
    assert path.read_text() == "You said: hello\n␛]0;owned␇␛[2J\ufffd31msafe\nend\n"
    assert "You said" not in chat.raw
