"""`edgellama doctor`: each check on a healthy machine and on one that is faked to be broken."""

import base64
import getpass
import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

from edgellama import cli, system
from edgellama.compiler import shipped
from edgellama.doctor import cache_folder, finding, installation, machine, processor, self_test
from edgellama.errors import EdgellamaError
from edgellama.simd import detect


@pytest.fixture
def cache_place(tmp_path, monkeypatch) -> Path:
    """A cache folder with one object, a temporary file that a killed process left, a made model, and settings."""
    folder = tmp_path / "cache"
    (folder / "kernels").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    (folder / "kernels" / "walk-avx2-0123.kernels").write_bytes(b"x" * 1000)
    (folder / "kernels" / ".walk-avx2-0123.kernels.0a1b2c3d").write_bytes(b"x" * 500)
    (folder / "models").mkdir(mode=0o700)
    (folder / "models" / "llama-3.2-1b-q4_k_m-1.gguf").write_bytes(b"x" * 200)
    (folder / "device.json").write_text("{}")
    monkeypatch.setenv("EDGELLAMA_CACHE", str(folder))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # the history of chats is cleaned with the cache
    return folder


def test_an_instruction_set_and_what_the_better_ones_lack(monkeypatch):
    monkeypatch.delenv("EDGELLAMA_ISA", raising=False)
    features = frozenset({"avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe", "avx512f"})
    monkeypatch.setattr(detect, "host_features", lambda: features)
    found = processor.check_instruction_set()
    assert found.state == "well" and found.facts["isa"] == "avx2"
    assert "avxvnni lacks avxvnni" in found.text
    assert "avx512 lacks avx512bw, avx512cd, avx512dq, avx512vl" in found.text
    assert "generic lacks" not in found.text


def test_an_instruction_set_that_does_not_work_is_wrong(monkeypatch):
    monkeypatch.setenv("EDGELLAMA_ISA", "avx9000")
    assert processor.check_instruction_set().state == "wrong"
    assert processor.check_kernels().state == "wrong"
    monkeypatch.setenv("EDGELLAMA_ISA", "generic")
    found = processor.check_instruction_set()
    assert found.state == ("note" if found.facts["best"] != "generic" else "well")


def test_the_processor_is_described():
    found = processor.check_processor()
    assert found.state == "well" and found.facts["threads"] >= 1 and found.facts["name"] in found.text


def test_kernels_that_must_be_compiled_without_numba_are_wrong(monkeypatch, cache_place, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "none")
    found = processor.check_kernels()
    assert found.state == "well" and found.facts["missing"] == 8 and "8 to compile" in found.text
    monkeypatch.setattr(processor, "find_spec", lambda name: None)
    assert processor.check_kernels().state == "wrong"


@pytest.mark.skipif(shipped.host_abi() is None, reason="no objects are shipped for this platform")
def test_an_object_that_does_not_fit_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    path = tmp_path / shipped.host_abi() / f"walk-{detect.chosen_isa()}.kernels"
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    found = processor.check_kernels()
    assert found.state == "wrong" and "do not fit the package's sources: walk" in found.text


def test_little_memory_is_wrong(monkeypatch):
    assert machine.check_memory().state == "well"
    monkeypatch.setattr(machine.system, "available_memory_bytes", lambda: 100 << 20)
    found = machine.check_memory()
    assert found.state == "wrong" and "0.1 GB available" in found.text


def test_a_terminal_without_unicode_is_noted(monkeypatch):
    class Ascii:
        encoding = "ANSI_X3.4-1968"

        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Ascii())
    found = machine.check_terminal()
    assert found.state == "note" and "shown as ?" in found.text and found.facts["stdout_is_terminal"]


def test_a_good_cache_is_measured(cache_place):
    found = cache_folder.check_cache(is_needed=True)
    assert found.state == "well" and found.facts["files"] == 4 and found.facts["bytes"] == 1702
    assert "not edgellama's" not in found.text


@pytest.mark.skipif(os.name == "nt", reason="folders of Windows have no mode")
@pytest.mark.parametrize("place", ["", "kernels", "models"])
@pytest.mark.parametrize("problem", ["link", "file", "open", "foreign"])
def test_an_unsafe_cache_is_wrong_and_never_cleaned(cache_place, tmp_path, monkeypatch, problem, place):
    folder = cache_place / place
    if problem == "open":
        folder.chmod(0o777)
    elif problem == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        folder.rename(tmp_path / "moved")
        folder.symlink_to(tmp_path / "moved") if problem == "link" else folder.write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert cache_folder.check_cache(is_needed=False).state == "wrong"
    with pytest.raises(EdgellamaError, match="is left as it is, because"):
        cache_folder.clean()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cache_that_cannot_be_made_is_wrong_only_if_needed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path / "file" / "cache"))
    assert cache_folder.check_cache(is_needed=True).state == "wrong"
    assert cache_folder.check_cache(is_needed=False).state == "note"


def test_no_home_folder_is_wrong_only_if_the_cache_is_needed(monkeypatch):
    def fail():
        raise RuntimeError("no home")

    monkeypatch.setattr(cache_folder.system, "cache_path", fail)
    assert cache_folder.check_cache(is_needed=True).state == "wrong"
    assert cache_folder.check_cache(is_needed=False).state == "note"
    assert "no home folder" in cache_folder.clean()


def test_cleaning_removes_the_cache_and_says_so(cache_place):
    assert "Deleted 4 files" in cache_folder.clean()
    assert not cache_place.exists()
    assert "does not exist" in cache_folder.clean()


def test_cleaning_leaves_what_is_not_edgellamas_and_follows_no_link(cache_place, tmp_path):
    outside = tmp_path / "outside.kernels"
    outside.write_text("precious")
    (cache_place / "kernels" / "walk-avx2-9999.kernels").symlink_to(outside)
    (cache_place / "thesis.txt").write_text("precious")
    said = cache_folder.clean()
    assert "Deleted 4 files" in said and "thesis.txt" in said
    assert outside.read_text() == (cache_place / "thesis.txt").read_text() == "precious"
    assert not (cache_place / "device.json").exists()


def test_a_folder_of_somebodys_things_is_left_alone(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "letter.txt").write_text("precious")
    monkeypatch.setenv("EDGELLAMA_CACHE", str(home))
    assert "Deleted 0 files" in cache_folder.clean()
    assert (home / "letter.txt").exists()


def test_versions_and_what_is_wrong_with_them(monkeypatch):
    assert installation.check_versions().state == "well"
    numbers = {"numba": "0.99.1", "numpy": "2.4.6"}

    def version(name):
        if name not in numbers:
            raise PackageNotFoundError(name)
        return numbers[name]

    monkeypatch.setattr(installation, "version", version)
    monkeypatch.setattr(installation, "_requirements", lambda: {"numpy": ">=2.0", "numba": "<0.69,>=0.68", "regex": ""})
    found = installation.check_versions()
    assert found.state == "wrong"
    assert "numba 0.99.1 is outside" in found.text and "regex is not installed" in found.text
    assert "numpy 2.4.6 is" not in found.text


@pytest.mark.parametrize(
    ("number", "bounds", "expected"),
    [
        ("2.10.0", ">=2.9", True),
        ("2.4", ">=2.4.1", False),
        ("0.69.0", ">=0.68,<0.69", False),
        ("3.1.6", ">=3.1.5", True),
        ("1.9.1rc2", ">=1.9,<2", True),
        ("2026.11.19", ">=2024.5", True),
    ],
)
def test_ranges_of_versions(number, bounds, expected):
    assert installation._is_within(number, bounds) is expected


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A site-packages folder with four small packages and a record of them, which is taken for the running one."""
    lines = []
    for name in installation.PACKAGES:
        (tmp_path / name).mkdir()
        path = tmp_path / name / "__init__.py"
        path.write_text(f"# {name}\n")
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
        lines.append(f"{name}/__init__.py,sha256={digest},{path.stat().st_size}")
    information = tmp_path / "edgellama-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: edgellama\nVersion: 0.1.0\n")
    (information / "RECORD").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(installation, "ROOT", tmp_path.resolve())
    monkeypatch.setattr(installation, "distributions", lambda name: [Distribution.at(information)])
    monkeypatch.setattr(installation, "find_spec", lambda name: specification(tmp_path / name))
    monkeypatch.setattr(installation, "packages_distributions", lambda: {"bench": ["edgellama", "pytest-bench"]})
    return tmp_path


def specification(folder: Path):
    from importlib.machinery import ModuleSpec

    return ModuleSpec(folder.name, None, origin=str(folder / "__init__.py"), is_package=True)


def test_an_installation_as_recorded_is_well(installed):
    found = installation.check_packages()
    assert found.state == "well" and "as they were installed" in found.text


@pytest.mark.parametrize("damage", ["edited", "missing"])
def test_a_file_that_is_not_as_recorded_is_named_with_who_else_owns_it(installed, damage):
    path = installed / "bench" / "__init__.py"
    path.write_text("# of another distribution\n") if damage == "edited" else path.unlink()
    found = installation.check_packages()
    assert found.state == "wrong" and found.facts["changed"] == ["bench/__init__.py"]
    assert "not as installed: bench/__init__.py, which the distribution pytest-bench owns" in found.text


def test_a_package_of_that_name_elsewhere_is_named(installed, monkeypatch, tmp_path):
    elsewhere = tmp_path.parent / "elsewhere" / "bench"

    def find(name):
        return specification(elsewhere if name == "bench" else installed / name)

    monkeypatch.setattr(installation, "find_spec", find)
    found = installation.check_packages()
    assert found.state == "wrong" and f"{elsewhere / '__init__.py'} is found first" in found.text
    assert "pytest-bench" in found.text


def test_a_source_folder_has_no_record(monkeypatch):
    monkeypatch.setattr(installation, "distributions", lambda name: [])
    found = installation.check_packages()
    assert found.state == "note" and "runs from the source folder" in found.text


def test_a_package_that_is_missing_is_wrong(installed, monkeypatch):
    monkeypatch.setattr(
        installation, "find_spec", lambda name: None if name == "quant" else specification(installed / name)
    )
    assert "the package quant is missing" in installation.check_packages().text


def test_kernels_agree_with_the_reference(synthetic_model):
    found = self_test.check_self_test(synthetic_model("q4_0"))
    assert found.state == "well", found.text
    assert 0 < found.facts["error"] < self_test.BOUND and found.facts["same_tokens"] == self_test.ANSWER_TOKENS


@pytest.mark.parametrize("facts", [{"error": 0.2}, {"error": float("nan")}, {"same_tokens": 11}])
def test_results_that_differ_are_wrong(facts):
    good = {"error": 0.01, "same_tokens": 12, "tokens": 12, "seconds": 1.0}
    assert self_test.judged(good).state == "well"
    assert self_test.judged(good | facts).state == "wrong"


def test_a_wrong_kernel_is_noticed(synthetic_model, monkeypatch):
    """The reference interpreter with another norm stands for kernels with a mistake."""
    from edgellama import reference

    rmsnorm = reference.OPERATIONS["rmsnorm"]

    def wrong(machine, op):
        rmsnorm(machine, op)
        machine.operand(op, "out")[:, 0] += 1

    monkeypatch.setitem(reference.OPERATIONS, "rmsnorm", wrong)
    assert self_test.judged(self_test.run(synthetic_model("q4_0"))).state == "wrong"


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "ended by SIGILL"),
        ("import sys; sys.exit('no such file')", "exit status 1: no such file"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="signals are those of Unix")
def test_a_process_that_dies_is_reported(monkeypatch, tmp_path, end, text):
    real = subprocess.run
    monkeypatch.setattr(
        self_test.subprocess, "run", lambda command, **options: real([sys.executable, "-c", end], **options)
    )
    found = self_test.check_self_test(tmp_path / "model.gguf")
    assert found.state == "wrong" and text in found.text


def test_no_model_is_wrong():
    assert self_test.check_self_test(None).state == "wrong"


def test_the_user_is_not_in_the_report(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    text = "/home/ada/.cache, /data/ada/models, /home/adalbert and a canada"
    assert finding.anonymous(text) == "~/.cache, /data/USER/models, /home/adalbert and a canada"
    assert finding.anonymous_facts({"a": ["/home/ada", 1, None]}) == {"a": ["~", 1, None]}


@pytest.fixture
def faked(monkeypatch):
    """The command with two findings in place of the checks."""
    from edgellama.commands import doctor

    def fake(state):
        findings = [
            finding.Finding("memory", "well", "much"),
            finding.Finding("cache", state, "one\ntwo", {"bytes": 1}),
        ]
        monkeypatch.setattr(doctor, "_findings", lambda with_self_test: iter(findings))

    return fake


@pytest.mark.parametrize(("state", "code"), [("well", 0), ("note", 0), ("wrong", 1)])
def test_the_exit_code_says_whether_all_is_well(faked, capsys, state, code):
    faked(state)
    assert cli.main(["doctor"]) == code
    text = capsys.readouterr().out
    assert text.splitlines()[0] == "ok    memory           much"
    assert ("All is well." in text) == (code == 0)
    assert cli.main(["doctor", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["well"] == (code == 0)
    assert report["checks"][1] == {"name": "cache", "state": state, "text": "one\ntwo", "facts": {"bytes": 1}}


def test_cleaning_from_the_command_line(cache_place, capsys):
    assert cli.main(["doctor", "--clean"]) == 0
    assert "Deleted 4 files" in capsys.readouterr().out
    (cache_place.parent / "real").mkdir()
    cache_place.symlink_to(cache_place.parent / "real")
    assert cli.main(["doctor", "--clean"]) == 2
    assert "it is a link" in capsys.readouterr().err


@pytest.mark.parametrize("neighbour", [None, "notes"])
def test_cleaning_forgets_what_was_typed_in_chats(cache_place, capsys, neighbour):
    folder = system.chat_history_path().parent
    folder.mkdir(parents=True)
    system.chat_history_path().write_text("a secret")
    if neighbour:
        (folder / neighbour).write_text("mine")
    assert cli.main(["doctor", "--clean"]) == 0
    assert "Deleted what was typed in chats" in capsys.readouterr().out
    assert [path.name for path in folder.parent.rglob("*")] == (["edgellama", neighbour] if neighbour else [])
    assert cli.main(["doctor", "--clean"]) == 0
    assert "chats" not in capsys.readouterr().out


def test_doctor_on_this_machine(run_python):
    """Everything but the self-test for real."""
    done = run_python("-m", "edgellama", "doctor", "--no-self-test", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    names = [check["name"] for check in json.loads(done.stdout)["checks"]]
    assert names == [
        "versions", "packages", "processor", "instruction set", "kernels", "memory", "GPU", "cache", "terminal",
    ]  # fmt: skip
