"""Everything is declared in pyproject.toml; this file adds what a release needs: a wheel with compiled kernels.

`python setup.py bdist_wheel --with-objects` compiles the runtime's kernels for all common x86-64 CPUs, for Linux and
Windows, and puts the objects into the wheel. It needs the package's dependencies installed. Installing from source
never does this.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from setuptools import setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    sys.exit("error: this setuptools is too old, install version 77 or later")

ROOT = Path(__file__).resolve().parent
PTX = "ptx"  # stands among the ABIs for the kernels of GPUs


class BuildWithObjects(build_py):
    """Copies the package, and compiles its kernels into the copy when the release command wants that."""

    with_objects = False
    object_isas = object_abis = None

    def run(self):
        super().run()
        if self.editable_mode:
            return
        objects = Path(self.build_lib) / "edgellama" / "compiler" / "objects"
        shutil.rmtree(objects, ignore_errors=True)  # an earlier wheel's, made from other sources
        ptx = Path(self.build_lib) / "edgellama" / "cuda" / "ptx"
        shutil.rmtree(ptx, ignore_errors=True)
        if self.with_objects:
            abis = self.object_abis.split(",") if self.object_abis else []
            for_cpus = [abi for abi in abis if abi != PTX]
            options = ["--isas", self.object_isas] if self.object_isas else []
            options += ["--abis", ",".join(for_cpus)] if for_cpus else []
            if for_cpus or not abis:
                compile_into(objects, "edgellama.compiler.release", options)
            if PTX in abis or not abis:
                compile_into(ptx, "edgellama.cuda.images", [])


def compile_into(folder: Path, module: str, options: list[str]) -> None:
    """Run a module of the package that writes kernels to a folder, or end."""
    command = [sys.executable, "-P", "-m", module, str(folder.resolve()), *options]
    if subprocess.call(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) != 0:
        sys.exit("error: the kernels could not be compiled, so there is no wheel")


class WheelWithObjects(bdist_wheel):
    user_options: ClassVar = [
        *bdist_wheel.user_options,
        ("with-objects", None, "compile the kernels for all common CPUs and put them into the wheel"),
        ("object-isas=", None, "only for these instruction sets, with commas (default: all)"),
        ("object-abis=", None, "only for these ABIs, and ptx for GPUs, with commas (default: all)"),
    ]
    boolean_options: ClassVar = [*bdist_wheel.boolean_options, "with-objects"]

    def initialize_options(self):
        super().initialize_options()
        self.with_objects = False
        self.object_isas = self.object_abis = None

    def run(self):
        build = self.get_finalized_command("build_py")
        build.with_objects = bool(self.with_objects)
        build.object_isas, build.object_abis = self.object_isas, self.object_abis
        super().run()


setup(cmdclass={"build_py": BuildWithObjects, "bdist_wheel": WheelWithObjects})
