"""docs/extending.md does what it says: each section's files, changes and commands, in a copy of the source."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from installed_copies import copy_tree

PAGE = Path(__file__).resolve().parent.parent / "docs" / "extending.md"
BLOCK = re.compile(r"(<!-- slow -->\n)?```(python|diff|sh)\n(.*?)```", re.DOTALL)
# What `python -m bench.tables --write` must have put into the README.
TABLE_ROWS = {
    "A family": "| `exaone4` | EXAONE 4.0 1.2B",
    "A format": "`q6_0`",
    "An instruction set": "| `sse42` |",
}


class Section(NamedTuple):
    files: dict[str, str]
    changes: list[str]
    commands: list[str]
    slow_commands: list[str]

    def write(self, folder: Path) -> None:
        for name, text in self.files.items():
            path = folder / name
            assert not path.exists(), f"{name} is there already: choose another example"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for change in self.changes:
            apply_change(folder, change)


def section_of(text: str) -> Section:
    section = Section({}, [], [], [])
    for slow, language, block in BLOCK.findall(text):
        if language == "python":
            section.files[re.match(r"# (\S+\.py)\n", block).group(1)] = block
        elif language == "diff":
            section.changes.append(block)
        else:
            (section.slow_commands if slow else section.commands).extend(block.splitlines())
    return section


def sections() -> dict[str, Section]:
    _, *parts = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: section_of(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def apply_change(folder: Path, change: str) -> None:
    """A diff without line numbers: the old lines of a hunk stand exactly once in the file."""
    header, *hunks = change.split("@@\n")
    path = folder / re.match(r"--- (\S+)\n\+\+\+ \1\n$", header).group(1)
    text = path.read_text(encoding="utf-8")
    for hunk in hunks:
        lines = hunk.splitlines()
        old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] in f" {sign}") for sign in "-+")
        assert text.count(f"\n{old}") == 1, f"{path.name} has not once:\n{old}"
        text = text.replace(f"\n{old}", f"\n{new}")
    path.write_text(text, encoding="utf-8")


def run_command(folder: Path, line: str) -> str:
    """One line of a shell block; what it printed."""
    words = shlex.split(line)
    environment = os.environ | {"PYTHONPATH": str(folder)}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    assert words.pop(0) == "python"
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


SECTIONS = sections()


def test_there_is_an_example_of_each():
    assert list(SECTIONS) == ["A family", "A format", "An op", "An instruction set"]
    assert all(section.files and section.commands for section in SECTIONS.values())


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_works(title, tmp_path):
    folder = copy_tree(tmp_path / "edgellama")
    SECTIONS[title].write(folder)
    for line in SECTIONS[title].commands:
        run_command(folder, line)
    if title in TABLE_ROWS:
        assert TABLE_ROWS[title] in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("title", [title for title, section in SECTIONS.items() if section.slow_commands])
def test_what_the_page_says_takes_longer(title, tmp_path):
    folder = copy_tree(tmp_path / "edgellama")
    SECTIONS[title].write(folder)
    for line in SECTIONS[title].slow_commands:
        run_command(folder, line)


@pytest.mark.parametrize("title", SECTIONS)
def test_examples_are_written_like_the_rest(title, tmp_path):
    """Lint and format, with the project's settings."""
    folder = copy_tree(tmp_path / "edgellama")
    SECTIONS[title].write(folder)
    names = [*SECTIONS[title].files]
    run_command(folder, shlex.join(["python", "-m", "ruff", "check", *names]))
    run_command(folder, shlex.join(["python", "-m", "ruff", "format", "--check", *names]))
