"""What the source of a file says about the value of an argument, without running it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import libcst as cst
from libcst.metadata import QualifiedNameProvider, ScopeProvider

from async_triggers.migrate.tree import Reader, literal


class _Mark:
    """Stands for a value that the source does not show."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


UNKNOWN: Final = _Mark("unknown")
TEXT: Final = _Mark("a text")
"""A text that is only known when the DAG is parsed, such as an environment variable."""

_CONSTANTS: Final = {"None": None, "True": True, "False": False}
_TEXTS: Final = frozenset(
    {
        "builtins.str",
        "os.environ.get",
        "os.getenv",
        "airflow.models.Variable.get",
        "airflow.models.variable.Variable.get",
        "airflow.sdk.Variable.get",
    }
)
"""What returns a text when it is called."""
_DEEPEST: Final = 8
"""Names that lead to names; more are not followed."""


class ValueReader(Reader):
    """Reads values: literals, and names that are bound to one and to nothing else."""

    def value_of(self, node: cst.CSTNode, depth: int = 0) -> object:
        """Return the value of an expression, :data:`TEXT` or :data:`UNKNOWN`."""
        found = self._written(node, depth)
        bound = self._bound_to(node) if depth < _DEEPEST else None
        return found if bound is None else self.value_of(bound, depth + 1)

    def _written(self, node: cst.CSTNode, depth: int) -> object:
        """Return the value of an expression that is not a name."""
        found: object = UNKNOWN
        match node:
            case cst.SimpleString() | cst.ConcatenatedString():
                said = literal(node)
                found = UNKNOWN if said is None else said
            case cst.FormattedString():
                found = TEXT
            case cst.Integer() | cst.Float():
                found = node.evaluated_value
            case cst.UnaryOperation(operator=cst.Minus(), expression=inner):
                value = self.value_of(inner, depth)
                if isinstance(value, int | float | timedelta):
                    found = -value
            case cst.Name(value=name):
                found = _CONSTANTS.get(name, UNKNOWN)
            case cst.Subscript(value=holder) if self._comes_from(holder, "os.environ"):
                found = TEXT
            case cst.Call():
                found = self._result_of(node, depth)

        return found

    def items_of(
        self, node: cst.CSTNode, depth: int = 0
    ) -> Iterator[tuple[str, cst.BaseExpression]] | None:
        """Return the keys and values of ``{…}`` or ``dict(…)``; None for anything else."""
        if isinstance(node, cst.Dict):
            return self._pairs(node)

        if isinstance(node, cst.Call) and self._comes_from(node.func, "builtins.dict"):
            return (
                (each.keyword.value, each.value)
                for each in node.args
                if each.keyword is not None
            )

        bound = self._bound_to(node) if depth < _DEEPEST else None
        return None if bound is None else self.items_of(bound, depth + 1)

    def elements_of(
        self, node: cst.CSTNode, depth: int = 0
    ) -> list[cst.BaseExpression] | None:
        """Return the elements of a list or tuple; None for anything else."""
        if isinstance(node, cst.List | cst.Tuple):
            return [each.value for each in node.elements]

        bound = self._bound_to(node) if depth < _DEEPEST else None
        return None if bound is None else self.elements_of(bound, depth + 1)

    @staticmethod
    def _pairs(node: cst.Dict) -> Iterator[tuple[str, cst.BaseExpression]]:
        for element in node.elements:
            if isinstance(element, cst.DictElement):
                key = literal(element.key)
                if key is not None:
                    yield key, element.value

    def _result_of(self, node: cst.Call, depth: int) -> object:
        if self._comes_from(node.func, *_TEXTS):
            is_json = any(
                each.keyword is not None and each.keyword.value == "deserialize_json"
                for each in node.args
            )
            return UNKNOWN if is_json else TEXT

        values = [self.value_of(each.value, depth) for each in node.args]
        if self._comes_from(node.func, "builtins.float") and len(values) == 1:
            return _made(float, values, {})

        if self._comes_from(node.func, "datetime.timedelta"):
            pairs = list(zip(node.args, values, strict=True))
            by_name = {
                each.keyword.value: value for each, value in pairs if each.keyword
            }
            by_place = [value for each, value in pairs if each.keyword is None]
            return _made(timedelta, by_place, by_name)

        return UNKNOWN

    def _comes_from(self, node: cst.CSTNode, *paths: str) -> bool:
        names: Any = self.get_metadata(QualifiedNameProvider, node, ())
        return any(each.name in paths for each in names)

    def _bound_to(self, node: cst.CSTNode) -> cst.BaseExpression | None:
        """Return the only expression that a name is ever bound to."""
        scope = self.get_metadata(ScopeProvider, node, None)
        if not isinstance(node, cst.Name) or scope is None:
            return None

        bindings = list(scope[node.value])
        target = getattr(bindings[0], "node", None) if len(bindings) == 1 else None
        holder = None if target is None else self.parent(target)
        if isinstance(holder, cst.AnnAssign):
            return holder.value

        statement = None if holder is None else self.parent(holder)
        if isinstance(holder, cst.AssignTarget) and isinstance(statement, cst.Assign):
            return statement.value

        return None


def _made(kind: type, by_place: list[Any], by_name: dict[str, Any]) -> object:
    """Return what a constructor makes of values that are all known."""
    try:
        return kind(*by_place, **by_name)
    except (OverflowError, TypeError, ValueError):
        return UNKNOWN
