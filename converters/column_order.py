"""Weights whose columns a checkpoint has in an order of its own: kept so where the rows before them can follow.

GPTQ with "activation order" scatters its groups over the columns. Sorted by group they fill blocks again, and the model
stays the same if what produces these columns puts its rows in the same order.
"""

from types import ModuleType

from .checkpoint_quantization.integer_groups import ColumnOrdered
from .lazy_tensor import LazyTensor, reordered
from .sources.checkpoint import Checkpoint


def absorb_column_orders(checkpoint: Checkpoint, family: ModuleType, n_layers: int) -> dict[str, LazyTensor]:
    """The checkpoint's tensors, with columns and rows in the new order where the family's records allow it."""
    tensors = dict(checkpoint.tensors)
    sources = {source.name: getattr(source, checkpoint.names) for source in family.SOURCES}
    for consumer, producers in getattr(family, "COLUMNS_FOLLOW_ROWS", {}).items():
        for layer in range(n_layers):
            name = f"{sources[consumer]}.weight".format(i=layer)
            modules = [sources[producer].format(i=layer) for producer in producers]
            _absorb(tensors, name, modules)
    return tensors


def _absorb(tensors: dict[str, LazyTensor], name: str, modules: list[str]) -> None:
    consumer = tensors.get(name)
    rows = [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]
    rows = [row for row in rows if row in tensors]
    if not isinstance(consumer, ColumnOrdered) or any(tensors[row].n_rows != len(consumer.order) for row in rows):
        return  # a wrong number of rows is found later, by the checks of shapes
    tensors[name] = consumer.gathered
    tensors |= {row: reordered(tensors[row], consumer.order) for row in rows}
