"""The compiled CUDA kernels: shipped with the package, from the cache, or compiled now by a child process.

`python -m edgellama.cuda.images FOLDER` writes what a release ships.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from .. import system
from ..compiler import cache, children
from ..compiler.groups import Group
from ..errors import EdgellamaError
from .architecture import ARCHITECTURES
from .build import EMULATOR, KERNELS

GROUP = Group("edgellama", (*KERNELS, "edgellama.cuda.build", "edgellama.cuda.simt.ptx_thread", EMULATOR), "cuda")
FOLDER = Path(__file__).resolve().parent / "ptx"  # what a release ships


def load_ptx(architecture: str) -> dict[str, bytes]:
    """{part: PTX as the driver wants it}: "common" and one part for each format of weights."""
    texts = json.loads(load_image(architecture).data)
    return {part: text.encode() + b"\0" for part, text in texts.items()}


def load_image(architecture: str) -> cache.KernelObject:
    """What build.py makes: PTX, or an object for the emulator. Raises EdgellamaError if compiling fails."""
    shipped = _read(FOLDER / f"{architecture}.kernels", shipped_key(architecture))
    if shipped is not None:
        return shipped
    key = cache.key_of(GROUP, architecture)
    found = cache.load(GROUP, architecture, key)
    if found is None:
        sealed = compile_image(architecture, key)
        cache.store(GROUP, architecture, sealed, key)
        found = cache.unseal(sealed, key)
    return found


def shipped_key(architecture: str) -> str:
    """Changes with the kernels' sources and the architecture, and with nothing else: PTX runs wherever a GPU does."""
    return hashlib.sha256(cache.made_from(GROUP, architecture)).hexdigest()[:40]


def _read(path: Path, key: str) -> cache.KernelObject | None:
    try:
        return cache.unseal(path.read_bytes(), key)
    except OSError:
        return None


def compile_image(architecture: str, key: str) -> bytes:
    """The sealed result of build.py in a process of its own."""
    command = [sys.executable, "-P", "-m", "edgellama.cuda.build", "--architecture", architecture, "--key", key]
    environment = children.child_environment()
    result = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False)
    if result.returncode != 0 or cache.unseal(result.stdout, key) is None:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {result.returncode}"]
        raise EdgellamaError(f"compiling the CUDA kernels for {architecture} failed: {lines[-1]}")
    return result.stdout


def build_images(folder: Path) -> int:
    """Write the PTX for every architecture as load_image() looks for it; how many bytes that is."""
    folder.mkdir(parents=True, exist_ok=True)
    n_bytes = 0
    for architecture in ARCHITECTURES:
        sealed = compile_image(architecture, shipped_key(architecture))
        path = folder / f"{architecture}.kernels"
        system.write_atomically(path, sealed)
        path.chmod(0o644)
        n_bytes += len(sealed)
        print(f"{path.parent.name}/{path.name} {len(sealed):,} bytes", flush=True)
    return n_bytes


if __name__ == "__main__":
    try:
        build_images(Path(sys.argv[1]))
    except EdgellamaError as error:
        sys.exit(f"error: {error}")
