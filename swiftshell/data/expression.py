"""Say which rows are meant in a small language: `dwell_s >= 20 or copied`, `thumb == 'up' and lang in ['en', 'zh']`.

Names are columns (`feedback.thumb` reaches into an object), values are numbers, strings, true, false and null; there are
`and`, `or`, `not`, comparisons (also chained), `in`, the four operations on numbers, and `len(column)`. Nothing else: the
text is parsed with Python's own parser, every node is checked against that list, and nothing is ever evaluated as code.

What a row does not have is unknown, as in SQL: `dwell_s >= 20` without a dwell time is neither true nor false, so neither
is its `not`; `copied or dwell_s >= 20` is true where copied is. `x == null` asks whether it is missing. A CSV file's
"20" counts as the number 20 beside a number, and its "false" as false where a yes or no is wanted.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data.row import BadRow, shown, type_name
from swiftshell.errors import SwiftshellError, fail

_MAX_CHARS = 2000
_MAX_NODES = 400
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
_YES = frozenset(("true", "yes", "y", "t", "1", "on", "是", "真", "对"))
_NO = frozenset(("", "false", "no", "n", "f", "0", "off", "null", "none", "nan", "否", "假"))
_ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_SUMS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip

Value = Any  # of a row, or of part of an expression; None is unknown
Look = Callable[[Mapping[str, Any]], Value]


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes:
        text: as it was written.
        names: the columns it looks at, in the order in which they appear.
    """

    text: str
    names: tuple[str, ...]
    _look: Look = field(repr=False)

    def holds(self, row: Mapping[str, Any]) -> bool | None:
        """Tell whether a row is meant; None where what it lacks would decide.

        Raises:
            BadRow: a column's value is not what the expression does with it.
        """
        return _truth(self._look(row), self.text)


def parse(text: str, *, flag: str) -> Expression:
    """Parse an expression.

    Args:
        text: what a person wrote.
        flag: where, for the message: "--rule", "rules[2].if".

    Raises:
        SwiftshellError: it is not in the language; the place is named.
    """
    if len(text) > _MAX_CHARS:
        raise fail("logs.rule_long", flag=flag, limit=_MAX_CHARS, chars=len(text))
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        at = getattr(error, "offset", None) or 1
        raise _refused(text, flag, at - 1, "") from None
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise fail("logs.rule_long", flag=flag, limit=_MAX_CHARS, chars=len(text))
    reader = _Reader(text, flag)
    look = reader.node(tree.body)
    if not reader.names:
        raise fail("logs.rule_no_column", flag=flag, text=text)
    return Expression(text.strip(), tuple(dict.fromkeys(reader.names)), look)


def value_of(row: Mapping[str, Any], name: str) -> Value:
    """Return a column's value; `a.b` is the column of that name, else what the object in column `a` has under `b`."""
    if name in row:
        found = row[name]
    else:
        found = row
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    return None if isinstance(found, float) and math.isnan(found) else found


class _Reader:
    """Turn checked nodes into functions of a row."""

    def __init__(self, text: str, flag: str) -> None:
        self._text, self._flag = text.strip(), flag
        self.names: list[str] = []

    def node(self, node: ast.expr) -> Look:
        reader = getattr(self, f"_{type(node).__name__.lower()}", None)
        if reader is None:
            raise self._refuse(node)
        look: Look = reader(node)
        return look

    def _refuse(self, node: ast.expr) -> SwiftshellError:
        return _refused(
            self._text, self._flag, node.col_offset, ast.get_source_segment(self._text, node) or ""
        )

    def _constant(self, node: ast.Constant) -> Look:
        value = node.value
        if not isinstance(value, str | int | float | bool | None) or isinstance(value, bytes):
            raise self._refuse(node)
        return lambda row: value

    def _name(self, node: ast.Name) -> Look:
        if node.id.lower() in _CONSTANTS:
            value = _CONSTANTS[node.id.lower()]
            return lambda row: value
        return self._column(node.id)

    def _attribute(self, node: ast.Attribute) -> Look:
        parts, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise self._refuse(node)
        return self._column(".".join([inner.id, *reversed(parts)]))

    def _column(self, name: str) -> Look:
        self.names.append(name)
        return lambda row: value_of(row, name)

    def _boolop(self, node: ast.BoolOp) -> Look:
        parts = [(self.node(part), ast.get_source_segment(self._text, part) or "") for part in node.values]
        decides = isinstance(node.op, ast.Or)

        def look(row: Mapping[str, Any]) -> bool | None:
            found = [_truth(part(row), text) for part, text in parts]
            if decides in found:
                return decides
            return None if None in found else not decides

        return look

    def _unaryop(self, node: ast.UnaryOp) -> Look:
        inner, text = self.node(node.operand), ast.get_source_segment(self._text, node.operand) or ""
        if isinstance(node.op, ast.Not):
            return lambda row: None if (truth := _truth(inner(row), text)) is None else not truth
        if isinstance(node.op, ast.USub):
            return lambda row: None if (number := _number(inner(row), text)) is None else -number
        raise self._refuse(node)

    def _binop(self, node: ast.BinOp) -> Look:
        if type(node.op) not in _SUMS:
            raise self._refuse(node)
        left, right, text = self.node(node.left), self.node(node.right), self._source(node)
        work = _SUMS[type(node.op)]

        def look(row: Mapping[str, Any]) -> float | None:
            a, b = _number(left(row), text), _number(right(row), text)
            if a is None or b is None or (b == 0 and work is operator.truediv):
                return None
            found = work(a, b)
            return found if math.isfinite(found) else None

        return look

    def _call(self, node: ast.Call) -> Look:
        if not (
            isinstance(node.func, ast.Name)
            and node.func.id == "len"
            and len(node.args) == 1
            and not node.keywords
        ):
            raise self._refuse(node)
        inner = self.node(node.args[0])
        return lambda row: None if not hasattr(value := inner(row), "__len__") else len(value)

    def _list(self, node: ast.List | ast.Tuple | ast.Set) -> Look:
        parts = [self.node(part) for part in node.elts]
        return lambda row: [part(row) for part in parts]

    _tuple = _set = _list

    def _compare(self, node: ast.Compare) -> Look:
        sides = [self.node(side) for side in (node.left, *node.comparators)]
        tests = [self._test(op, node) for op in node.ops]

        def look(row: Mapping[str, Any]) -> bool | None:
            values = [side(row) for side in sides]
            found = [test(a, b) for test, a, b in zip(tests, values, values[1:], strict=False)]
            return False if False in found else None if None in found else True

        return look

    def _test(self, op: ast.cmpop, node: ast.Compare) -> Callable[[Value, Value], bool | None]:
        text = self._source(node)
        asks_null = any(
            isinstance(s, ast.Constant) and s.value is None for s in (node.left, *node.comparators)
        ) or any(
            isinstance(s, ast.Name) and s.id.lower() in ("null", "none")
            for s in (node.left, *node.comparators)
        )
        if isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot):
            wanted = isinstance(op, ast.Eq | ast.Is)
            if isinstance(op, ast.Is | ast.IsNot) and not asks_null:
                raise self._refuse(node)
            if asks_null:
                return lambda a, b: (a is None and b is None) is wanted
            return lambda a, b: None if a is None or b is None else _equal(a, b) is wanted
        if isinstance(op, ast.In | ast.NotIn):
            within = isinstance(op, ast.In)
            return lambda a, b: None if a is None or b is None else _inside(a, b, text) is within
        compare = _ORDERS[type(op)]
        return lambda a, b: None if a is None or b is None else _ordered(a, b, compare, text)

    def _source(self, node: ast.expr) -> str:
        return ast.get_source_segment(self._text, node) or self._text


def _refused(text: str, flag: str, at: int, part: str) -> SwiftshellError:
    part = part or shown(text.strip()[max(0, at - 1) :]) or shown(text)
    return fail("logs.rule_unreadable", flag=flag, text=text, part=part, column=at + 1)


def _truth(value: Value, text: str) -> bool | None:
    """Read a value as yes or no.

    Raises:
        BadRow: it is a text that is neither.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _YES or word in _NO:
            return word in _YES
        number = _as_number(word)
        if number is not None:
            return number != 0
        raise BadRow("logs.not_yes_or_no", text, text=text, value=shown(value))
    return bool(value)


def _number(value: Value, text: str) -> float | None:
    if value is None:
        return None
    number = _as_number(value) if isinstance(value, str) else value
    if isinstance(number, int | float):
        return number
    raise BadRow("logs.not_number", text, text=text, value=shown(value), type=type_name(value))


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _equal(a: Value, b: Value) -> bool:
    if isinstance(b, bool):
        a, b = b, a
    if isinstance(a, bool) and isinstance(b, str):
        return b.strip().casefold() in (_YES if a else _NO)
    if isinstance(a, str) and isinstance(b, int | float):
        return _as_number(a) == b
    if isinstance(b, str) and isinstance(a, int | float):
        return _as_number(b) == a
    return bool(a == b)


def _inside(a: Value, b: Value, text: str) -> bool:
    if isinstance(b, str):
        return str(a) in b
    if isinstance(b, list | tuple):
        return any(_equal(a, item) for item in b if item is not None)
    if isinstance(b, Mapping):
        return a in b
    raise BadRow("logs.not_list", text, text=text, value=shown(b), type=type_name(b))


def _ordered(a: Value, b: Value, compare: Callable[[Any, Any], bool], text: str) -> bool:
    numbers = [isinstance(v, int | float) for v in (a, b)]
    if any(numbers):
        first, second = _number(a, text), _number(b, text)
        return first is not None and second is not None and compare(first, second)
    if isinstance(a, str) and isinstance(b, str):
        return compare(a, b)
    odd = a if not isinstance(a, str) else b
    raise BadRow("logs.not_number", text, text=text, value=shown(odd), type=type_name(odd))


def names_in(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names a row offers: its columns, and `column.part` for those that hold an object."""
    for name, value in row.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping) and not prefix:
            yield from names_in(value, f"{name}.")
