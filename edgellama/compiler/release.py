"""`python -m edgellama.compiler.release FOLDER`: the kernel objects that a release wheel contains.

Compiles every kernel group of the runtime for every instruction set and ABI, on whatever machine this is: nothing is
executed. `python setup.py bdist_wheel --with-objects` runs it; installing from source never does.
"""

import argparse
import sys
from pathlib import Path

from .. import system
from ..errors import EdgellamaError
from ..simd.target import TARGETS
from . import shipped
from .children import Job, run_jobs
from .groups import groups_of


def release_jobs(isas: list[str], abis: list[str]) -> list[Job]:
    """One compilation for each group, instruction set and ABI that go together."""
    return [
        Job(group, isa, shipped.key_of(group, isa, abi), shipped.ABIS[abi])
        for abi in abis
        for isa in shipped.isas_of(abi)
        if isa in isas
        for group in groups_of("edgellama")
    ]


def build_objects(folder: Path, isas: list[str], abis: list[str]) -> int:
    """Write the objects under `folder` as shipped.load() looks for them; how many bytes they are."""
    names = {triple: abi for abi, triple in shipped.ABIS.items()}
    jobs, n_bytes = release_jobs(isas, abis), 0
    for done, (job, _, sealed) in enumerate(run_jobs(jobs), 1):
        path = shipped.path_of(folder, job.group, job.isa, names[job.triple])
        path.parent.mkdir(parents=True, exist_ok=True)
        system.write_atomically(path, sealed)
        path.chmod(0o644)  # a private file would be unreadable where root installs the wheel for others
        n_bytes += len(sealed)
        print(f"{done}/{len(jobs)} {path.parent.name}/{path.name} {len(sealed):,} bytes", flush=True)
    return n_bytes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m edgellama.compiler.release", description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument(
        "--isas", default=",".join(TARGETS), help="instruction sets, separated by commas (default: all)"
    )
    parser.add_argument("--abis", default=",".join(shipped.ABIS), help="ABIs, with commas (default: all)")
    options = parser.parse_args()
    isas, abis = options.isas.split(","), options.abis.split(",")
    unknown = [*(isa for isa in isas if isa not in TARGETS), *(abi for abi in abis if abi not in shipped.ABIS)]
    if unknown:
        known = ", ".join([*TARGETS, *shipped.ABIS])
        raise EdgellamaError(f"there is no instruction set or ABI {unknown[0]}; choose among {known}")
    n_bytes = build_objects(options.folder, isas, abis)
    print(f"{n_bytes / 1e6:.1f} MB of kernel objects in {options.folder}")


if __name__ == "__main__":
    try:
        main()
    except EdgellamaError as error:
        sys.exit(f"error: {error}")
