"""What the documents say of the code is true: files exist, tables are current, commands are commands."""

import re
from pathlib import Path

import pytest

from bench import __main__ as bench_commands
from bench import tables
from edgellama import arch, cli, formats
from edgellama.simd.target import TARGETS

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("training/*.md"), *REPOSITORY.glob("docs/**/*.md")])
TOP_FOLDERS = ("edgellama", "bench", "tests", "quant", "converters", "training", "docs", ".ci")
CPU = REPOSITORY / "edgellama" / "cpu"


def named(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def anchors(text: str) -> set[str]:
    """The targets that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_commands() -> list[list[str]]:
    """The indented lines of the README that start a program, in words."""
    lines = re.findall(r"^    (\S.*)$", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return [part.split() for line in lines for part in line.split(" && ")]


def test_there_are_documents_to_check():
    assert {"README.md", "docs/architecture.md", "docs/formats.md"} <= {named(path) for path in DOCUMENTS}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_files_that_are_named_exist(path):
    """`edgellama/cpu/`, and short forms like `gemm.py` or `cpu/layout.py`; capitals stand for a name to choose."""
    python_files = {named(file) for top in TOP_FOLDERS for file in (REPOSITORY / top).rglob("*.py")}
    for name in re.findall(r"`([\w./*]+)`", path.read_text(encoding="utf-8")):
        if "*" in name or re.search(r"\b[A-Z]+\b", name.rpartition(".")[0]):
            continue
        if name.endswith(".py"):
            assert any(f"/{file}".endswith(f"/{name}") for file in python_files), name
        elif name.endswith("/"):
            assert any((REPOSITORY / base / name).is_dir() for base in (".", "edgellama", "edgellama/cpu")), name
        elif name.startswith(tuple(f"{top}/" for top in TOP_FOLDERS)):
            assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_tables_are_current(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert tables.rendered(text) == text, "run `python -m bench.tables --write`"


def test_every_table_is_shown():
    shown = re.findall(
        r"<!-- table: (\w+) -->", "".join((REPOSITORY / name).read_text(encoding="utf-8") for name in tables.DOCUMENTS)
    )
    assert sorted(shown) == sorted(tables.TABLES)


def test_tables_have_a_row_for_everything():
    for table, things in (
        (tables.formats_table(), [item.name for item in formats.ALL]),
        (tables.families_table(), arch.names()),
        (tables.instruction_sets_table(), TARGETS),
    ):
        assert re.findall(r"^\| `(\w+)` ", table, re.MULTILINE) == list(things)


def test_speed_classes():
    assert [tables.speed_class(name) for name in ("q4_k", "f16", "iq2_xs", "i32")] == [
        tables.PACKED, tables.PACKED, tables.UNPACKED, tables.NO_WEIGHTS,
    ]  # fmt: skip


def test_stale_tables_are_found_and_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    for name in tables.DOCUMENTS:
        (tmp_path / name).write_text("a\n<!-- table: families -->\nold\n<!-- end of table -->\nb\n")
    monkeypatch.setattr(tables, "REPOSITORY", tmp_path)
    assert tables.main([]) == 1
    assert "README.md: stale" in capsys.readouterr().out
    assert tables.main(["--write"]) == 0
    assert tables.main([]) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("a\n<!--") and text.endswith("-->\nb\n") and "`llama`" in text


def test_commands_of_the_readme_exist():
    known = {"edgellama": cli.COMMANDS, "bench": bench_commands.COMMANDS}
    seen = set()
    for words in shell_commands():
        program = Path(words[0]).name
        if program == "python" and words[1:3] == ["-m", "bench"]:
            program, words = "bench", words[2:]
        if program in known:
            command = " ".join(words[1:3]) if " ".join(words[1:3]) in known[program] else words[1]
            assert command in known[program], " ".join(words)
            seen.add((program, command))
    assert {("edgellama", name) for name in cli.COMMANDS} <= seen, "the README shows every command"


def test_options_of_the_readme_exist():
    for words in shell_commands():
        if Path(words[0]).name == "edgellama":
            _, parser = cli._parsers(words[1])
            known = {option for action in parser._actions for option in action.option_strings}
            assert {word for word in words if re.fullmatch(r"--?[a-z][\w-]*", word)} <= known, " ".join(words)


def test_ci_runs_what_the_readme_says():
    script, readme = (
        (REPOSITORY / name).read_text(encoding="utf-8") for name in (".ci/run", "README.md")
    )  # readme_command refuses a command that the README lacks
    commands = re.findall(r'readme_command "([^"]+)"', script)
    assert len(commands) == 3
    assert all(f"    {command}\n" in readme for command in commands)


def test_every_page_of_the_documents_is_in_the_site():
    """mkdocs.yml is read as text: its pages are all of docs/, so none is left out or missing."""
    text = (tables.REPOSITORY / "mkdocs.yml").read_text()
    pages = re.findall(r"^ +- .*: (\S+\.md)$", text, re.MULTILINE)
    assert sorted(pages) == sorted(path.name for path in (tables.REPOSITORY / "docs").glob("*.md"))
