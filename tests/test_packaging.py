"""The package as people get it: what is in wheel and sdist, and that it runs where nothing may be written."""

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from installed_copies import REPOSITORY, add_objects, copy_tree, make_read_only, run_setup, stranger, unpack
from instruction_levels import beyond, instructions

from edgellama.compiler import shipped
from edgellama.simd.detect import chosen_isa

pytest.importorskip("setuptools.command.bdist_wheel", reason="setuptools 77 or later builds the wheel of this test")

PACKAGES = ("edgellama", "quant", "converters", "bench")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("package") / "a tree")


@pytest.fixture(scope="module")
def wheel(tree) -> Path:
    """Built although an earlier release has left its objects in the build folder."""
    stale = tree / "build" / "lib" / "edgellama" / "compiler" / "objects" / "elf-x86_64" / "walk-avx2.kernels"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of other sources")
    return run_setup(tree, "bdist_wheel")


def files_in(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel, tree):
    sources = {path.relative_to(tree) for name in PACKAGES for path in (tree / name).rglob("*") if path.is_file()}
    data = {path.as_posix() for path in sources if path.suffix in (".py", ".gguf", ".typed")}
    names = {name for name in files_in(wheel) if ".dist-info/" not in name}
    assert {"edgellama/py.typed", "edgellama/bundled/edgellama-demo-q8_0.gguf"} <= names
    assert names == data


def test_the_wheel_is_for_every_platform(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")


def test_nothing_in_the_wheel_names_the_place_of_the_build(wheel, tree):
    for name, content in files_in(wheel).items():
        assert str(tree).encode() not in content and str(REPOSITORY).encode() not in content, name


def test_the_sdist_builds_the_same_wheel(tree, wheel, tmp_path):
    sdist = run_setup(tree, "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (unpacked,) = tmp_path.iterdir()
    for name in ("README.md", "pyproject.toml", "setup.py", ".ci/run", "docs/architecture.md", "tests/conftest.py"):
        assert (unpacked / name).read_bytes() == (REPOSITORY / name).read_bytes()
    again = files_in(run_setup(unpacked, "bdist_wheel"))
    assert again.keys() == files_in(wheel).keys()


def test_a_release_that_cannot_be_compiled_leaves_no_wheel(tree):
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--with-objects", "--object-isas=avx9000", "-d", "none"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no instruction set or ABI avx9000" in done.stderr and "there is no wheel" in done.stderr
    assert not (tree / "none").exists()


def object_in(sealed: bytes) -> bytes:
    """The object file at the end of a sealed one, whatever its key."""
    start = 8 + 32  # magic and SHA-256, see cache.seal()
    header_size, _ = struct.unpack_from("<QQ", sealed, start)
    return sealed[start + 16 + header_size :]


needs_objects = pytest.mark.skipif(shipped.host_abi() != "elf-x86_64", reason="runs shipped objects on x86-64 Linux")

# `python -m edgellama` on a machine without a network.
OFFLINE = """
import socket, sys

def refuse(*arguments, **options):
    raise OSError("there is no network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from edgellama.cli import main
code = main(sys.argv[1:])
assert "numba" not in sys.modules
sys.exit(code)
"""


@pytest.fixture(scope="module")
def place(wheel, synthetic_model):
    """A folder that everyone can read and nobody write, with the package in "site packages" and a model beside it."""
    folder = Path(tempfile.mkdtemp(prefix="edgellama test "))  # pytest's own folders are closed to other users
    try:
        site = unpack(wheel, folder / "site packages")
        add_objects(site)
        shutil.copy(synthetic_model("q4_0"), folder / "a model.gguf")
        make_read_only(folder)
        yield folder
    finally:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)


def run_as_stranger(place: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    environment = {"PYTHONPATH": os.pathsep.join([str(place / "site packages"), *dependencies]), **settings}
    environment["EDGELLAMA_ISA"] = chosen_isa()  # the one that is tested, and that objects were added for
    command = [sys.executable, "-P", "-c", OFFLINE, *arguments]
    options = {"cwd": "/", "capture_output": True, "text": True, "timeout": 120}
    other_user = stranger()
    if other_user:
        with contextlib.suppress(PermissionError):  # this Python lies where others cannot reach it
            return subprocess.run(command, env=environment, **options, **other_user)
    environment |= {"HOME": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}  # oneself without a usable home
    return subprocess.run(command, env=environment, **options)


@needs_objects
def test_it_runs_read_only_without_a_home_offline_in_a_path_with_spaces(place):
    before = sorted(place.rglob("*"))
    done = run_as_stranger(place, "generate", str(place / "a model.gguf"), "-p", "a", "-n", "4", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert sorted(place.rglob("*")) == before


@needs_objects
def test_doctor_is_content_there(place):
    done = run_as_stranger(place, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 came with the package, 0 cached, none to compile" in done.stdout
    assert "as they were installed" in done.stdout or "source folder" in done.stdout
    assert "there is no home folder" in done.stdout or "is not used" in done.stdout


@pytest.mark.slow
@needs_objects
def test_a_wheel_with_objects_installs_runs_and_leaves_only_its_cache(tree, tmp_path, synthetic_model):
    isa = chosen_isa()
    wheel = run_setup(tree, "bdist_wheel", "--with-objects", f"--object-isas={isa}")
    objects = {name: content for name, content in files_in(wheel).items() if name.endswith(".kernels")}
    assert len(objects) == 16
    for name, content in objects.items():
        assert str(tree).encode() not in content and b"/home/" not in content and b"site-packages" not in content, name
        assert beyond(instructions(object_in(content), isa), isa) == []

    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "new env")], check=True)
    python = tmp_path / "new env" / "bin" / "python"
    home = tmp_path / "home"
    home.mkdir()
    # Dependencies come from this environment, after the new one's own packages: this one may have an edgellama too.
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    site = next((tmp_path / "new env").glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    environment = {"HOME": str(home), "PATH": os.defpath, "EDGELLAMA_ISA": isa}

    def run(*arguments: str, **more: str) -> str:
        command = [str(python), *arguments]
        done = subprocess.run(command, env=environment | more, cwd=home, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    before = set((tmp_path / "new env").rglob("*"))
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--ignore-installed", str(wheel))
    command = str(tmp_path / "new env" / "bin" / "edgellama")
    model = str(synthetic_model("q4_0"))
    assert run(command, "generate", model, "-p", "a", "-n", "4")
    report = run(command, "doctor")
    assert f"8 groups for {isa}: 8 came with the package" in report and "as they were installed" in report
    run("-m", "pip", "uninstall", "-q", "-y", "edgellama")
    assert {path for path in set((tmp_path / "new env").rglob("*")) - before if "edgellama" in path.name} == set()
    assert {path.name for path in home.iterdir()} <= {".cache"}
    run("-P", "-m", "edgellama", "doctor", "--clean", PYTHONPATH=str(REPOSITORY))
    assert not (home / ".cache" / "edgellama").exists()
