"""What a kernel group is made from, who compiles it, and what loading says when that fails."""

import json
import os
import subprocess
import sys

import pytest

from edgellama.compiler import cache, children, loader, sources
from edgellama.compiler.groups import GROUPS, Group, groups_of, register
from edgellama.errors import EdgellamaError


def test_a_key_depends_on_group_target_and_every_imported_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "keyed_kernels"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('finding sources imports nothing')")
    (folder / "tables.py").write_text("SIZE = 3\n")
    (folder / "helper.py").write_text("from . import (\n    tables,\n)\n")
    (folder / "main.py").write_text("from .helper import tables\nimport json\n")
    group = Group("keyed_kernels", ("keyed_kernels.main",), "keyed")

    def key(isa="avx2"):
        for function in (sources._content, sources._imports_of):
            function.cache_clear()
        return cache.key_of(group, isa)

    before = key()
    assert key() == before
    assert key("avx512") != before
    (folder / "unrelated.py").write_text("")
    assert key() == before
    (folder / "tables.py").write_text("SIZE = 4\n")
    assert key() != before


IMPORTED = """
import importlib, json, sys
from edgellama.simd import target
target.select("generic")
from edgellama import formats  # registers all formats; kernels depend on those they name
from edgellama.compiler import codegen
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([name for name in sys.modules if name.startswith("edgellama.") and name not in before]))
"""


@pytest.mark.parametrize("name", GROUPS)
def test_sources_of_a_group_are_what_its_modules_import(name):
    """The imports that Python performs, apart from packages: their files hold no kernels, only imports."""
    done = subprocess.run([sys.executable, "-c", IMPORTED, *GROUPS[name]], capture_output=True, text=True, check=True)
    known = set(sources.group_sources(GROUPS[name]))
    files = {sources._file_of(module) for module in json.loads(done.stdout)}
    assert {file for file in files if file.name != "__init__.py"} <= known
    always = ("compiler/codegen.py", "compiler/build.py", "compiler/entry.py", "simd/target.py", "simd/vector.py")
    assert {sources.PACKAGE / path for path in always} <= known
    assert sources.PACKAGE / "compiler/groups.py" not in known  # a new group leaves the others alone


def test_sources_follow_every_way_to_import(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "many_imports.py"
    module.write_text(
        "import edgellama.simd.dot\nfrom edgellama.formats import (  # tables\n    iq2_s,\n    q4_0,\n)\n"
        "def later():\n    from edgellama.cpu import layout\n"
    )
    known = {
        file.relative_to(sources.PACKAGE).as_posix()
        for file in sources.group_sources(("many_imports",))
        if file != module
    }
    assert {"simd/dot.py", "simd/target.py", "formats/iq2_s.py", "formats/q4_0.py", "cpu/layout.py"} <= known
    assert "formats/grids.py" in known and "formats/q8_0.py" not in known


def test_sources_that_do_not_exist_are_named():
    with pytest.raises(ModuleNotFoundError, match=r"edgellama\.no_kernels"):
        sources.group_sources(("edgellama.no_kernels",))


def test_groups_are_kept_apart_by_package():
    group = Group("elsewhere", ("elsewhere.kernels",), "elsewhere_kernels")
    register(group)
    register(group)
    assert groups_of("elsewhere") == [group]
    assert [known.name for known in groups_of("edgellama")] == list(GROUPS)
    with pytest.raises(ValueError, match="already called elsewhere_kernels"):
        register(Group("another", (), "elsewhere_kernels"))


def test_a_failing_compilation_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_kernels.py").write_text("raise ValueError('this kernel is broken')")
    group = Group("tiny", ("broken_kernels",), "broken")
    with pytest.raises(EdgellamaError, match=r"compiling the broken kernels for generic failed: .*kernel is broken"):
        children.compile_groups([group], "generic", {"broken": "key"}, lambda done, total: None)


def test_a_frozen_app_is_not_started_as_an_interpreter(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(EdgellamaError, match="needs a Python interpreter"):
        children.compile_groups(groups_of("edgellama")[:1], "generic", {"walk": "key"}, lambda done, total: None)


def test_children_ignore_settings_of_numba(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    environment = children.child_environment()
    assert "NUMBA_DISABLE_JIT" not in environment
    assert str(sources.PACKAGE.parent) in environment["PYTHONPATH"].split(os.pathsep)


def test_the_environment_chooses_the_instruction_set(monkeypatch):
    monkeypatch.setenv("EDGELLAMA_ISA", "generic")
    assert loader.load_kernels(package="a package without kernels").target.dot == "generic"
    monkeypatch.setenv("EDGELLAMA_ISA", "avx9000")
    with pytest.raises(EdgellamaError, match="EDGELLAMA_ISA=avx9000 is no instruction set"):
        loader.load_kernels(package="a package without kernels")


def test_unknown_instruction_sets_and_kernels_are_named():
    with pytest.raises(EdgellamaError, match="cannot run avx9000"):
        loader.load_kernels(isa="avx9000")
    empty = loader.load_kernels(isa="generic", package="a package without kernels")
    with pytest.raises(RuntimeError, match="no kernel is called matmul"):
        empty.address("matmul")


def test_a_name_that_two_groups_export_is_refused():
    with pytest.raises(RuntimeError, match="exported by two groups: one, two"):
        loader.Kernels("generic", [cache.KernelObject("", ["one", "two"], b"")] * 2)


def test_the_line_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(loader.system, "is_terminal", lambda stream: True)
    show = loader._terminal_progress("avx2")
    show(0, 2)
    show(2, 2)
    line = "\rcompiling kernels for avx2 (once per device) "
    assert capsys.readouterr().err == f"{line}0/2{line}2/2\n"
