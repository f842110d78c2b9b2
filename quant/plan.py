"""From what a user asked for to the work to be done: the type of every tensor, checked before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellama import fp8
from edgellama.errors import EdgellamaError

from . import fp8_scales
from .encoders import WRITABLE
from .gguf_header import Value
from .quantizer import TensorJob, make_jobs
from .recipes import UNQUANTIZED, Recipe
from .tensor_roles import model_facts
from .type_choice import NO_OPTIONS, TypeOptions, choose_types, without_importance

if TYPE_CHECKING:
    from edgellama.gguf import GGUFFile

    from .importance import ImportanceMatrix

QUANTIZATION_VERSION = 2  # of GGML's block formats
_NOT_WEIGHTS = ("i8", "i16", "i32", "i64", "f64")


@dataclass(frozen=True)
class Plan:
    """The jobs in file order and the keys that the output gets besides those of the source."""

    jobs: list[TensorJob]
    keys: Mapping[str, Value]

    @property
    def n_bytes(self) -> int:
        """Of all tensors, without the header."""
        return sum(job.n_bytes for job in self.jobs)

    @property
    def n_values(self) -> int:
        return sum(job.output.n_rows * job.tensor.shape[-1] for job in self.jobs)


def plan_recipe(
    source: "GGUFFile",
    recipe: Recipe,
    options: TypeOptions = NO_OPTIONS,
    importance: "ImportanceMatrix | None" = None,
    allow_requantize: bool = False,
    fp8_granularity: str = "row",
) -> Plan:
    """Types by a recipe. Raises EdgellamaError, one sentence, for what cannot or should not be written."""
    for name in (options.output, options.token_embedding, *(name for _, name in options.overrides)):
        if name is not None and name not in WRITABLE:
            raise EdgellamaError(f"{name!r} is no tensor type that can be written; choose among {', '.join(WRITABLE)}")
    fp8.join_scales(source)
    model = model_facts(source, importance is not None)
    types = choose_types(source.tensors.values(), model, recipe, options)
    return plan_types(source, types, recipe.file_type, importance, allow_requantize, fp8_granularity)


def plan_types(
    source: "GGUFFile",
    types: Mapping[str, str],
    file_type: int,
    importance: "ImportanceMatrix | None" = None,
    allow_requantize: bool = False,
    fp8_granularity: str = "row",
) -> Plan:
    """The same with a type for every tensor by name."""
    jobs = make_jobs(source, types, importance, fp8_granularity)
    for job in jobs:
        if not job.is_copied:
            _check(source, job, allow_requantize)
    wanting = [name for name in without_importance(types) if importance is None or importance.columns.get(name) is None]
    if wanting and any(not job.is_copied for job in jobs if job.tensor.name in wanting):
        raise EdgellamaError(
            f"{source.path}: {types[wanting[0]]} needs an importance matrix for {wanting[0]!r} and would be noise "
            "without it; give one with --imatrix"
        )
    return Plan(jobs, _keys(file_type, importance) | _fp8_keys(source, jobs))


def _check(source: "GGUFFile", job: TensorJob, allow_requantize: bool) -> None:
    if job.type_name not in WRITABLE:
        raise EdgellamaError(
            f"{source.path}: tensor {job.tensor.name!r} would become {job.type_name}, which cannot be written; "
            f"choose among {', '.join(WRITABLE)}"
        )
    if job.tensor.type_name in _NOT_WEIGHTS:
        raise EdgellamaError(
            f"{source.path}: tensor {job.tensor.name!r} is {job.tensor.type_name}, which is no type of plain weights; "
            "start from the model that this one was made from"
        )
    if job.tensor.type_name not in (*UNQUANTIZED, *fp8.TYPES) and not allow_requantize:
        raise EdgellamaError(
            f"{source.path}: tensor {job.tensor.name!r} is {job.tensor.type_name} already, and quantizing it again "
            "loses more than once; start from the F16 model, or give --allow-requantize"
        )


def _fp8_keys(source: "GGUFFile", jobs: list[TensorJob]) -> dict[str, Value]:
    forms = {(job.scales.format_name, job.scales.of_file) for job in jobs if job.scales}
    if len(forms) > 1:
        raise EdgellamaError(f"{source.path}: a file holds FP8 of E4M3 or of E5M2; choose one for all tensors")
    return fp8_scales.keys(*forms.pop()) if forms else {}


def _keys(file_type: int, importance: "ImportanceMatrix | None") -> dict[str, Value]:
    keys: dict[str, Value] = {
        "general.quantization_version": QUANTIZATION_VERSION,
        "general.file_type": file_type,
    }
    if importance is not None:
        keys["quantize.imatrix.file"] = importance.path.name
        if importance.datasets:
            keys["quantize.imatrix.dataset"] = importance.datasets[0]
        keys["quantize.imatrix.entries_count"] = len(importance.columns)
        if importance.n_chunks:
            keys["quantize.imatrix.chunks_count"] = importance.n_chunks
    return keys
