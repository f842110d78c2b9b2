"""Every example of docs/python-api.md runs as it stands there, on a small model of random weights and a trained one."""

import os
import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "python-api.md"
EXAMPLES = re.findall(r"## (.+?)\n|```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def titled_examples() -> list[tuple[str, str]]:
    title, found = "", []
    for heading, code in EXAMPLES:
        title = heading or title
        if code:
            found.append((f"{title} {len(found)}", code))
    return found


def test_there_are_examples():
    assert len(titled_examples()) >= 9


@pytest.mark.parametrize(("title", "code"), titled_examples(), ids=[title for title, _ in titled_examples()])
def test_example(title, code, synthetic_model, tmp_path, monkeypatch, capsys):
    run_example(code, synthetic_model("q4_0"), tmp_path, monkeypatch)
    if "print(" in code and "tool_calls" not in code:
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(("title", "code"), titled_examples(), ids=[title for title, _ in titled_examples()])
def test_example_with_a_trained_model(title, code, shared_data, tmp_path, monkeypatch):
    run_example(code, shared_data / "trained" / "stories260K" / "f32.gguf", tmp_path, monkeypatch)


def run_example(code: str, model: Path, folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    names = {"MODEL": os.fspath(model), "__name__": "example"}
    if "import edgellama\n" not in code:
        code = f"import edgellama\n{code}"
    exec(compile(code, "example", "exec"), names)
