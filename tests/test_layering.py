"""The rules that keep the runtime embeddable: what may import what, and what an import may cost."""

import ast
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
RUNTIME = REPOSITORY / "edgellama"
TOOLS = {"quant", "converters", "bench"}
HEAVY = {"numpy", "numba", "llvmlite", "sentencepiece", "regex", "jinja2", "rich", "prompt_toolkit", "llguidance"}
DEPENDENCY_RANGES = {"numba": ">=0.68,<0.69", "llvmlite": ">=0.50,<0.51"}


def imported_names(path: Path) -> set[str]:
    """Absolute module names that a file imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return names


def imported_packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported_names(path)}


def runtime_files() -> list[Path]:
    return sorted(RUNTIME.rglob("*.py"))


def may_import_numba(path: Path) -> bool:
    """The compiler, what kernels are written on, and kernels, which are Numba functions."""
    parts = path.relative_to(RUNTIME).parts
    return parts[0] in ("compiler", "simd") or "kernels" in parts or "simt" in parts


def test_there_are_files_to_check():
    assert len(runtime_files()) > 20


@pytest.mark.parametrize("path", runtime_files(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_runtime_file_imports(path):
    packages = imported_packages(path)
    if path.relative_to(RUNTIME).parts[0] != "commands":
        assert not packages & TOOLS, "an app that embeds edgellama may have packages of these names"
    assert "training" not in packages, "it is not installed"
    if "numba" in packages:
        assert may_import_numba(path), "Numba is for the compiler, simd/ and kernels only"


@pytest.mark.parametrize("package", ["commands", "terminal"])
def test_the_runtime_does_not_know_its_command_line(package):
    for path in runtime_files():
        if path.relative_to(RUNTIME).parts[0] not in ("commands", "terminal", "cli.py", "__main__.py"):
            names = imported_names(path) | relative_names(path)
            assert not any(name.split(".")[:2] == ["edgellama", package] for name in names), path


def relative_names(path: Path) -> set[str]:
    """What `from ..package import name` names, from "edgellama" on."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.relative_to(REPOSITORY).with_suffix("").parts[: -node.level]
            names |= {".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names}
    return names


def test_tools_import_their_own_package_relatively():
    for tool in TOOLS:
        for path in (REPOSITORY / tool).rglob("*.py"):
            assert tool not in imported_packages(path), f"{path} must import its own package relatively"


def test_commands_import_tools_lazily():
    for path in (RUNTIME / "commands").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
                assert not {name.partition(".")[0] for name in names} & TOOLS, f"{path}: {names}"


def loaded_after(run_python, code: str) -> set[str]:
    """Top-level packages in memory after running the code in a fresh process."""
    result = run_python("-c", f"import sys\n{code}\nprint('\\n' + ' '.join({{m.split('.')[0] for m in sys.modules}}))")
    assert result.returncode == 0, result.stderr
    return set(result.stdout.strip().splitlines()[-1].split())


def test_import_edgellama_is_light(run_python):
    assert not loaded_after(run_python, "import edgellama") & HEAVY


def test_system_import_is_light(run_python):
    loaded = loaded_after(run_python, "import edgellama.system")
    assert not loaded & (HEAVY | {"ctypes", "subprocess"})


@pytest.mark.skipif(not (RUNTIME / "cli.py").exists(), reason="there is no command line yet")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_is_light(run_python, arguments):
    code = (
        "from edgellama.cli import main\n"
        f"try:\n    code = main({arguments!r})\n"
        "except SystemExit as stop:\n    code = stop.code\n"
        "assert not code, code"
    )
    assert not loaded_after(run_python, code) & HEAVY


def test_dependencies_are_what_the_runtime_imports():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", requirement).group() for requirement in project["dependencies"]}
    tools = [path for tool in TOOLS - {"bench"} for path in (REPOSITORY / tool).rglob("*.py")]
    imported = set().union(*map(imported_packages, [*runtime_files(), *tools])) - TOOLS - {"edgellama"}
    assert imported - sys.stdlib_module_names == declared


def test_dependency_ranges_are_minor_releases():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for name, expected in DEPENDENCY_RANGES.items():
        assert f"{name}{expected}" in project["dependencies"], (
            f"the range of {name} changed: the compiler uses its internals; run every test on every ISA, then edit this"
        )
    assert project["requires-python"] == ">=3.11,<3.14"


@pytest.mark.parametrize("name", DEPENDENCY_RANGES)
def test_installed_versions_are_in_range(name):
    low, high = DEPENDENCY_RANGES[name].removeprefix(">=").split(",<")
    installed = tuple(int(part) for part in version(name).split(".")[:2])
    assert tuple(map(int, low.split("."))) <= installed < tuple(map(int, high.split(".")))
