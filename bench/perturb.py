"""How firm a greedy text is: its smallest margin against what one-ulp changes of the embeddings do to the logits.

Activations are rounded to 8-bit integers, so a change in the last place flips some of them and moves the logits by
about the quantization error. Another instruction set does the same. A text whose smallest margin between the likeliest
token and the next is several times larger is the same everywhere by design; any other is the same by luck.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
FIRM = 5.0  # margins are at least so many times the largest change of a logit
PERTURBATIONS = 32


class StoredTensor(NamedTuple):
    """A tensor as it lies in a file: floats of its shape, or bytes (n_rows, row_bytes)."""

    name: str
    data: np.ndarray
    type: GGMLQuantizationType


Change = Callable[[StoredTensor], Iterator[StoredTensor]]


def unchanged(tensor: StoredTensor) -> Iterator[StoredTensor]:
    yield tensor


def copy_model(source: Path, target: Path, change: Change = unchanged, metadata: dict[str, Any] | None = None) -> Path:
    """Write `source` to `target` with what `change` yields for each tensor, and `metadata` instead of its own values.

    A value of None drops its key.
    """
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    reader, metadata = GGUFReader(source), metadata or {}
    architecture = metadata.get("general.architecture", reader.fields["general.architecture"].contents())
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or metadata.get(name, field) is None:
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, metadata.get(name, field.contents()), kind, sub_type=element)
    for tensor in reader.tensors:
        for changed in change(StoredTensor(tensor.name, tensor.data, tensor.tensor_type)):
            writer.add_tensor(changed.name, changed.data, raw_dtype=changed.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def with_float_embedding(source: Path, target: Path) -> Path:
    """A copy whose embedding is float32; the output matrix keeps its own bits, also where it was the embedding."""
    from gguf import GGMLQuantizationType, GGUFReader
    from gguf.quants import dequantize

    tied = all(tensor.name != OUTPUT for tensor in GGUFReader(source).tensors)

    def change(tensor: StoredTensor) -> Iterator[StoredTensor]:
        if tensor.name != EMBEDDING:
            yield tensor
            return
        yield StoredTensor(EMBEDDING, dequantize(tensor.data, tensor.type), GGMLQuantizationType.F32)
        if tied:
            yield tensor._replace(name=OUTPUT)

    return copy_model(source, target, change)


def one_ulp_away(values: np.ndarray, seed: int) -> np.ndarray:
    """float32 values, each moved to its neighbour above or below by chance."""
    up = np.random.default_rng(seed).integers(0, 2, values.shape, dtype=bool)
    return np.nextafter(values, np.where(up, np.float32(np.inf), np.float32(-np.inf)))


def perturbed_copies(source: Path, folder: Path, count: int = PERTURBATIONS) -> Iterator[Path]:
    """`count` copies of a model whose embeddings are one ulp away: one file, which changes with every step."""
    from gguf import GGUFReader

    path = with_float_embedding(source, folder / f"{source.stem}-perturbed.gguf")
    embedding = next(t.data for t in GGUFReader(path, "r+").tensors if t.name == EMBEDDING)
    exact = embedding.copy()
    for seed in range(count):
        embedding[:] = one_ulp_away(exact, seed)
        embedding.flush()
        yield path
    path.unlink()


@dataclass(frozen=True)
class Firmness:
    """Of one greedy text: its tokens, the margin at each of them, and the largest change of any of their logits."""

    ids: list[int]
    margins: np.ndarray
    largest_change: float

    @property
    def ratio(self) -> float:
        return float(self.margins.min()) / self.largest_change

    @property
    def firm_tokens(self) -> int:
        """How many tokens come before the first whose margin is too small."""
        weak = np.flatnonzero(self.margins < FIRM * self.largest_change)
        return int(weak[0]) if len(weak) else len(self.margins)


def firmness(model: Path, prompt: list[int], n_tokens: int, count: int = PERTURBATIONS, **options: Any) -> Firmness:
    """Greedy text of `model`, at most n_tokens, judged under `count` perturbations; `options` go to edgellama.load."""
    import edgellama

    with edgellama.load(model, **options) as loaded:
        for _ in loaded.generate(prompt, n_tokens, temperature=0):
            pass
        ids = loaded.last_stats.ids
        logits = _after(loaded, prompt, ids)
    changes = []
    with tempfile.TemporaryDirectory() as folder:
        for path in perturbed_copies(model, Path(folder), count):
            with edgellama.load(path, **options) as loaded:
                changes.append(np.abs(_after(loaded, prompt, ids) - logits).max())
    top = np.sort(logits, axis=1)[:, -2:]
    return Firmness(ids, top[:, 1] - top[:, 0], float(max(changes)))


def _after(model: Any, prompt: list[int], ids: list[int]) -> np.ndarray:
    """The logits that each of `ids` was chosen from, (len(ids), vocab)."""
    return model.logits(prompt + ids[:-1])[len(prompt) - 1 :]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("-p", "--prompt", action="append", help="a prompt; may be given several times (default: none)")
    parser.add_argument("-n", "--tokens", type=int, default=256, help="tokens to generate after each prompt")
    parser.add_argument("--count", type=int, default=PERTURBATIONS, help="perturbations of the embeddings")
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--threads", type=int)


def main(arguments: argparse.Namespace) -> int:
    from edgellama.tokenizer import from_gguf

    firm = True
    for prompt in arguments.prompt or [""]:
        ids = from_gguf(arguments.model).encode(prompt)
        options = {"kv_type": arguments.kv_type, "threads": arguments.threads}
        found = firmness(arguments.model, ids, arguments.tokens, arguments.count, **options)
        firm = firm and found.ratio >= FIRM
        print(
            f"{prompt!r}: {len(found.ids)} tokens, {found.firm_tokens} of them firm; smallest margin"
            f" {found.margins.min():.2g}, largest change {found.largest_change:.2g}, ratio {found.ratio:.2g}"
        )
    return 0 if firm else 1


if __name__ == "__main__":
    own_parser = argparse.ArgumentParser(prog="python -m bench.perturb", description=__doc__)
    add_arguments(own_parser)
    raise SystemExit(main(own_parser.parse_args()))
