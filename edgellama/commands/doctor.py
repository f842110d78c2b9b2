"""`edgellama doctor`: whether everything that edgellama needs is there and works, as text for a bug report."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edgellama.doctor.finding import Finding

_MARKS = {"well": "ok", "note": "note", "wrong": "WRONG"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-self-test", action="store_true", help="leave out the test of the kernels, some seconds")
    parser.add_argument(
        "--clean",
        action="store_true",
        help="delete the cache and what was typed in chats, nothing else",
    )


def main(args: argparse.Namespace) -> int:
    """Print the findings; 0 if all is well, 1 if something is wrong. EdgellamaError for a cache that is not ours."""
    if args.clean:
        return _clean(args)
    findings = []
    for finding in _findings(not args.no_self_test):
        findings.append(finding)
        if not args.json:
            print(_as_text(finding), flush=True)
    is_well = all(finding.state != "wrong" for finding in findings)
    if args.json:
        print(_as_json(findings, is_well))
    else:
        print("\nAll is well." if is_well else "\nSomething is wrong: see above.")
    return 0 if is_well else 1


def _clean(args: argparse.Namespace) -> int:
    import json

    from edgellama.doctor.cache_folder import clean
    from edgellama.doctor.chat_history import forget
    from edgellama.doctor.finding import anonymous

    done = anonymous("\n".join(filter(None, [clean(), forget()])))
    print(json.dumps({"cleaned": done}) if args.json else done)
    return 0


def _findings(with_self_test: bool) -> "Iterator[Finding]":
    from edgellama.doctor import cache_folder, gpu, installation, machine, processor, self_test

    yield installation.check_versions()
    yield installation.check_packages()
    yield processor.check_processor()
    yield processor.check_instruction_set()
    kernels = processor.check_kernels()
    yield kernels
    yield machine.check_memory()
    yield gpu.check_gpu()
    yield cache_folder.check_cache(is_needed=kernels.facts.get("missing") != 0)
    yield machine.check_terminal()
    if with_self_test:
        with _self_test_model() as model:
            yield self_test.check_self_test(model)


@contextmanager
def _self_test_model() -> "Iterator[Path | None]":
    """The bundled model, or a tiny one with random weights; None if the package that makes that is not there."""
    import tempfile
    from importlib.util import find_spec
    from pathlib import Path

    from edgellama import bundled

    if bundled.PATH.exists():
        yield bundled.PATH
    elif find_spec("bench") is None or find_spec("bench.synthesize") is None or find_spec("gguf") is None:
        yield None
    else:
        from bench.synthesize import SHAPES, synthesize

        with tempfile.TemporaryDirectory() as folder:
            yield synthesize(SHAPES["tiny"], "q4_0", Path(folder) / "tiny.gguf")


def _as_text(finding: "Finding") -> str:
    from edgellama.doctor.finding import anonymous

    first, *more = anonymous(finding.text).splitlines()
    return "\n".join([f"{_MARKS[finding.state]:6}{finding.name:17}{first}", *(f"{'':23}{line}" for line in more)])


def _as_json(findings: "list[Finding]", is_well: bool) -> str:
    import json

    from edgellama.doctor.finding import anonymous_facts

    checks = [
        {"name": finding.name, "state": finding.state, "text": finding.text, "facts": finding.facts}
        for finding in findings
    ]
    return json.dumps({"well": is_well, "checks": anonymous_facts(checks)}, indent=2)
