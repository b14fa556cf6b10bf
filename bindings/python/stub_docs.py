"""Copies the docstrings of the native module into its stub, `_native.pyi`, where editors read them.

The docstrings are written in `src/`. Run this after `make build` when one of them has changed; a test compares.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

from libdiscover import _native

STUB = Path(__file__).parent / "python/libdiscover/_native.pyi"

Definition = Union[ast.ClassDef, ast.FunctionDef]


def definitions(tree: ast.Module) -> Iterator[tuple[Definition, Any]]:
    """Yields each definition of the stub that has a docstring of its own, with its object in the module."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            value = getattr(_native, node.name)
            yield node, value
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("__"):
                    yield member, getattr(value, member.name)


def without_docs(stub: str) -> str:
    """Returns the stub without docstrings, and without the blank line after each."""
    lines = stub.split("\n")
    for node, _ in reversed(list(definitions(ast.parse(stub)))):
        if ast.get_docstring(node) is None:
            continue
        doc, rest = node.body[0], node.body[1:]
        if not rest:
            lines[doc.lineno - 2] += " ..."
        start, end = doc.lineno - 1, doc.end_lineno or doc.lineno
        if end < len(lines) and not lines[end] and not (isinstance(node, ast.ClassDef) and not rest):
            end += 1
        del lines[start:end]
    return "\n".join(lines)


def with_docs(stub: str) -> str:
    """Returns the stub with the docstrings of the module."""
    lines = without_docs(stub).split("\n")
    insertions = []
    for node, value in definitions(ast.parse("\n".join(lines))):
        first = node.body[0]
        is_empty = isinstance(first, ast.Expr) and lines[first.lineno - 1].endswith(": ...")
        if is_empty:
            at = first.lineno
        else:
            at = min([first.lineno, *(each.lineno for each in getattr(first, "decorator_list", []))]) - 1
        insertions.append((at, is_empty, docstring(node, inspect.getdoc(value) or "")))
    for at, is_empty, text in sorted(insertions, key=lambda each: each[:2], reverse=True):
        if is_empty:
            lines[at - 1] = lines[at - 1].removesuffix(" ...")
        lines[at:at] = [*text, ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def docstring(node: Definition, text: str) -> list[str]:
    indent = " " * (node.col_offset + 4)
    first, *rest = text.split("\n")
    if not rest:
        return [f'{indent}"""{first}"""']
    return [f'{indent}"""{first}', *(f"{indent}{line}".rstrip() for line in rest), f'{indent}"""']


if __name__ == "__main__":
    STUB.write_text(with_docs(STUB.read_text()))
