"""What a chat template may be written with, and where counting is put into it.

Jinja compiles a template to Python. Before that, this walks the syntax tree: kinds of nodes that are not listed are
refused, and where Jinja would work without asking the environment (loops, `~`, comparisons, slices, literals,
`*arguments`), operands get a filter around them, with a name that is no identifier.
"""

from collections.abc import Iterator, Mapping, Sized
from typing import Any

from jinja2 import nodes, pass_environment
from jinja2.environment import Environment
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

from .budget import MAX_INTEGER_BITS, OBJECT_BYTES, SLOT_BYTES, Budget
from .errors import TemplateError, TemplateLimitError
from .sandbox_filters import FILTERS, TESTS
from .sandbox_operators import concatenate

_NODES = (
    "Template Output TemplateData For If Macro CallBlock FilterBlock With Scope Assign AssignBlock Break Continue"
    " Name NSRef Const Tuple List Dict Pair Keyword CondExpr Filter Test Call Getitem Getattr Slice Concat Compare"
    " Operand Mul Div FloorDiv Add Sub Mod Pow Not Neg Pos And Or"
)
_ALLOWED = frozenset(_NODES.split())
# What compiling a node costs, in nodes of the usual kind.
_WEIGHTS = {"Macro": 8, "CallBlock": 8, "For": 4, "AssignBlock": 2, "FilterBlock": 2, "With": 2, "Name": 2}


class Guard(NodeTransformer):
    """Refuses and wraps nodes. Raises TemplateError."""

    def __init__(self, max_nodes: int):
        self.nodes_left = max_nodes
        self._n_repeating = 0

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        kind = type(node).__name__
        if kind not in _ALLOWED:
            raise TemplateError(f"the chat template was refused: line {node.lineno} has {kind!r}, which is not allowed")
        self.nodes_left -= _WEIGHTS.get(kind, 1)
        if self.nodes_left < 0:
            raise TemplateLimitError("the chat template was refused: it is too long")
        return super().visit(node, *args, **kwargs)

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        """Plain text becomes a constant expression, which is printed, and so counted, like any other."""
        return nodes.Const(node.data, lineno=node.lineno)

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802
        if isinstance(node.value, int) and node.value.bit_length() > MAX_INTEGER_BITS:
            raise TemplateLimitError("the chat template was refused: it computes with huge integers")
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        if node.recursive:
            raise TemplateError(f"the chat template was refused: line {node.lineno} has a recursive loop")
        self._repeating(node)
        node.iter = _wrap("guard iterate", node.iter)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        if self._n_repeating:
            raise TemplateError(f"the chat template was refused: line {node.lineno} has a macro inside a loop or macro")
        return self._repeating(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._repeating(node)

    def _repeating(self, node: nodes.Node) -> nodes.Node:
        self._n_repeating += 1
        self.generic_visit(node)
        self._n_repeating -= 1
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _spread(node)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        return self._known(node, FILTERS, "guard unknown filter")

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        return self._known(node, TESTS, "guard unknown test")

    def _known(self, node: nodes.Filter | nodes.Test, table: Mapping[str, Any], otherwise: str) -> nodes.Node:
        """A name that is in the table, or what raises once the template gets there: many never do."""
        self.generic_visit(node)
        if node.name not in table:
            node.args, node.kwargs = [nodes.Const(node.name)], []
            node.dyn_args = node.dyn_kwargs = None
            node.name = otherwise
        return _spread(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _wrap("guard concatenate", nodes.List(node.nodes, lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _wrap("guard operand", node.expr)
        for operand in node.ops:
            operand.expr = _wrap("guard operand", operand.expr)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return _wrap("guard literal", self.generic_visit(node))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if node.ctx == "store" else _wrap("guard literal", node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        for pair in node.items:
            pair.key = _wrap("guard operand", pair.key)
        return _wrap("guard literal", node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = [bound or nodes.Const(None) for bound in (node.arg.start, node.arg.stop, node.arg.step)]
        return _wrap("guard slice", node.node, bounds)


def _wrap(name: str, node: nodes.Expr, args: list[nodes.Expr] | None = None) -> nodes.Expr:
    return nodes.Filter(node, name, args or [], [], None, None, lineno=node.lineno)


def _spread(node: Any) -> Any:
    """Charge what `*arguments` and `**arguments` of a call hold."""
    for field in ("dyn_args", "dyn_kwargs"):
        if getattr(node, field) is not None:
            setattr(node, field, _wrap("guard literal", getattr(node, field)))
    return node


class CountedItems:
    """What a loop goes over, counting its steps."""

    def __init__(self, items: Any, budget: Budget):
        self.items, self.budget = items, budget

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            self.budget.step()
            yield item

    def __len__(self) -> int:
        return len(self.items)


@pass_environment
def _iterate(environment: Environment, items: Sized) -> CountedItems:
    environment.budget.take(OBJECT_BYTES)
    return CountedItems(items, environment.budget)


@pass_environment
def _operand(environment: Environment, value: Any) -> Any:
    environment.budget.step()
    environment.budget.walk(value)
    return value


@pass_environment
def _literal(environment: Environment, value: Any) -> Any:
    environment.budget.take_items(len(value))
    return value


@pass_environment
def _concatenate(environment: Environment, values: list[Any]) -> str:
    return concatenate(environment.budget, values)


@pass_environment
def _slice(environment: Environment, value: Any, start: Any, stop: Any, step: Any) -> Any:
    part = value[start:stop:step]
    if type(part) is str:
        environment.budget.take_text(len(part))
    else:
        environment.budget.take(SLOT_BYTES * len(part))
        environment.budget.step(1 + (len(part) >> 8))
    return part


def _unknown_filter(value: Any, name: str) -> None:
    raise TemplateError(f"the chat template was refused: it uses the filter {name!r}, which is not allowed")


def _unknown_test(value: Any, name: str) -> None:
    raise TemplateError(f"the chat template was refused: it uses the test {name!r}, which is not allowed")


GUARD_FILTERS = {
    "guard unknown filter": _unknown_filter,
    "guard iterate": _iterate,
    "guard operand": _operand,
    "guard literal": _literal,
    "guard concatenate": _concatenate,
    "guard slice": _slice,
}
GUARD_TESTS = {"guard unknown test": _unknown_test}


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's text for training; here it is just its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's body, in a scope of its own."""
        lineno = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=lineno)
