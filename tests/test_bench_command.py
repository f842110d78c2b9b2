"""`edgellama bench` as people run it: one real run of a tiny model, and what is refused."""

import json
import subprocess
import sys

import pytest

from edgellama import cli
from edgellama.commands import tool_packages
from edgellama.errors import EdgellamaError


def run_bench(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "edgellama", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.fixture(scope="module")
def finished(synthetic_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    sizes = ("-p", "16", "-n", "4", "-d", "0,8", "-b", "1,2", "-t", "1", "-r", "2")
    files = (
        "--save",
        str(folder / "run.json"),
        "--report",
        str(folder / "run.html"),
        "--plot",
        str(folder / "roofline.svg"),
    )
    done = run_bench(str(synthetic_model("q8_0")), *sizes, *files, "--energy")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_prints_its_table(finished):
    _, done = finished
    assert done.stderr == ""
    for words in ("pp16", "tg4", "tg4 x2", "tg4 @ d8", "Model: loads in", "Limits with 1 threads: memory", "Energy"):
        assert words in done.stdout


def test_a_run_saves_its_record(finished):
    folder, _ = finished
    record = json.loads((folder / "run.json").read_text())
    assert [row["test"] for row in record["results"]] == ["pp16", "tg4", "tg4 x2", "pp16 @ d8", "tg4 @ d8"]
    assert all(len(row["samples_ts"]) >= 2 and min(row["samples_ts"]) > 0 for row in record["results"])
    assert {row["limit"] for row in record["results"]} == {"int8", "cache"}  # half a megabyte of weights
    assert record["start"]["load_seconds"] > 0 and record["start"]["peak_memory_bytes"] > 1e6
    assert record["limits"]["stream_bytes_per_second"]["1"] > 1e8 and record["command"][2].endswith(".gguf")


def test_a_run_draws(finished):
    folder, _ = finished
    assert "<svg" in (folder / "run.html").read_text() and (folder / "roofline.svg").read_text().startswith("<svg")


def test_a_saved_record_becomes_a_page(finished, tmp_path, capsys):
    folder, _ = finished
    assert cli.main(["bench", "report", str(folder / "run.json"), "-o", str(tmp_path / "page.html")]) == 0
    assert "tg4" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name a MODEL, or a --shape"),
        (["m.gguf", "--shape", "tiny"], "name a MODEL, or a --shape"),
        (["absent.gguf"], "absent.gguf"),
        (["m.gguf", "-p", "0", "-n", "0"], "nothing to measure"),
        (["m.gguf", "-p", "12,x"], "no list of numbers"),
        (["m.gguf", "-t", "0"], "must be at least 1"),
        (["m.gguf", "-ctk", "q3"], "no list of f16"),
        (["m.gguf", "--sustain", "0"], "above 0"),
        (["m.gguf", "--plot", "x.svg"], "named for what it shows"),
        (["--shape", "llama-99b"], "there is no shape 'llama-99b'"),
        (["--shape", "tiny", "--type", "q9"], "there is no type 'q9'"),
        (["report", "absent.json", "-o", "x.html"], "absent.json"),
    ],
)
def test_refused_in_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(["bench", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    error = capsys.readouterr().err
    assert code == 2 and sentence in error and len(error.strip().splitlines()) == 1


def test_a_model_that_does_not_load_is_one_sentence(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(4))
    done = run_bench(str(tmp_path / "bad.gguf"))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "bad.gguf" in done.stderr


def test_a_made_model_is_kept_and_whole(tmp_path, monkeypatch):
    from bench import synthetic_cache

    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path))
    first = synthetic_cache.cached_model("tiny", "q8_0")
    stamp = first.stat().st_mtime_ns
    assert synthetic_cache.cached_model("tiny", "Q8_0") == first and first.stat().st_mtime_ns == stamp
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_made_model_that_cannot_fit_is_refused(tmp_path, monkeypatch):
    from bench import synthetic_cache
    from edgellama import system

    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path))
    monkeypatch.setattr(system, "available_memory_bytes", lambda: 1 << 30)
    with pytest.raises(EdgellamaError, match=r"llama-3\.1-8b-q4_0-1\.gguf needs about 6.* GB of memory, and 1\.1 GB"):
        synthetic_cache.cached_model("llama-3.1-8b", "q4_0")
    monkeypatch.setattr(system, "free_disk_bytes", lambda folder: 1000)
    with pytest.raises(EdgellamaError, match=r"0\.0 GB are free"):
        synthetic_cache.cached_model("tiny", "q8_0")


def test_another_package_of_the_name_is_named(tmp_path):
    """A folder `bench` in the way, as of another program that is installed beside this one."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("")
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    program = f"{first}\nfrom edgellama.cli import main\nsys.exit(main(['bench', 'm']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "another package 'bench'" in done.stderr and str(tmp_path) in done.stderr


def test_a_missing_package_is_named():
    with pytest.raises(EdgellamaError, match="'no_such_tool' of edgellama is not installed"):
        tool_packages.require("no_such_tool")


def test_a_peer_that_is_missing_is_reported_and_not_fatal(synthetic_model, tmp_path):
    path, record = str(synthetic_model("q8_0")), tmp_path / "run.json"
    sizes = ("-p", "0", "-n", "4", "-t", "1", "-r", "1", "--save", str(record))
    done = run_bench(path, *sizes, "--vs", "llama.cpp", "--peer-python", str(tmp_path / "python"))
    assert done.returncode == 0 and "llama.cpp failed: start: " in done.stdout and "cannot be started" in done.stdout
    peer = json.loads(record.read_text())["peers"][0]
    assert peer["runtime"] == "llama.cpp" and peer["results"] == [] and "cannot be started" in peer["error"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["compare", "{folder}/run.json"], "comparing needs two records, or one with a peer"),
        (["compare", "{folder}/none.json"], "none.json"),
        (["--tune"], "name a MODEL"),
        (["m.gguf", "--forget"], "--forget needs --tune"),
        (["m.gguf", "--tune", "-o", "csv"], "--tune writes md or json"),
        (["m.gguf", "--vs", "other"], "invalid choice"),
    ],
)
def test_refusals_of_comparing_and_tuning(finished, arguments, reason):
    done = run_bench(*(text.format(folder=finished[0]) for text in arguments))
    assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr
