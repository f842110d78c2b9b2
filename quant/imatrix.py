"""The importance matrix of a model and a text: the squares of what each of its matrices is multiplied with, summed up.

An error in column k of a row moves the output by that error times input k. Squared errors of the row, weighted by the
mean squares of the inputs, are therefore what the output's squared error is expected to be.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgellama.errors import EdgellamaError

from .activations import ActivationReader, MatmulInput
from .imatrix_file import ActivationSums
from .text_chunks import TextChunks

if TYPE_CHECKING:
    from edgellama import Model

Report = Callable[[str, int, int], None]


def collect(
    model: "Model", chunks: TextChunks, found: ActivationSums, *, output: bool = False, report: Report | None = None
) -> None:
    """Evaluate all chunks and add their squares to `found`; with `output`, those of the output matrix too.

    Raises EdgellamaError if `found` has sums of another model, for activations that are no finite numbers, and for
    chunks of too few tokens.
    """
    reader = ActivationReader(model, output)
    sums = {place: np.zeros((1, place.view.width)) for place in reader.inputs}
    _add(found, sums, 0)  # refuses sums of another model before the work begins
    with model.new_session() as session:
        for index in range(len(chunks)):
            session.reset()
            for place, inputs in reader.read(session, chunks.evaluated(index)):
                sums[place] += np.square(inputs).sum(axis=0, dtype=np.float64)
            _check_finite(model, sums)
            if report:
                report(f"chunk {index + 1} of {len(chunks)}", index + 1, len(chunks))
    _add(found, sums, chunks.ids.size)


def _add(found: ActivationSums, sums: Mapping[MatmulInput, NDArray], n_tokens: int) -> None:
    for place, values in sums.items():
        for name in place.tensors:
            found.add(name, values, np.array([n_tokens]))


def _check_finite(model: "Model", sums: Mapping[MatmulInput, NDArray]) -> None:
    for place, values in sums.items():
        if not np.isfinite(values).all():
            raise EdgellamaError(f"{model.file.path}: the inputs of {place.tensors[0]} are no finite numbers")
