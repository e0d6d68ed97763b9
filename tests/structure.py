"""Read our own source files as trees, for the rules of `test_structure`."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
SOURCE_FOLDERS = ("raftd", "client", "tests", "cluster", "proto")
TEXT_FOLDERS = (*SOURCE_FOLDERS, "docs", ".ci")
TEXT_SUFFIXES = {"", ".md", ".proto", ".py", ".sh", ".sql", ".toml", ".txt", ".yaml"}


@dataclass(frozen=True)
class Source:
    """One hand-written Python file."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """The path as the messages show it."""
        return str(self.path.relative_to(ROOT))

    @property
    def module(self) -> str:
        """The dotted name it is imported by."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        parts = parts[1:] if parts[0] == "client" else parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def is_package(self) -> bool:
        """Whether it is an `__init__.py`."""
        return self.path.name == "__init__.py"


@cache
def sources() -> tuple[Source, ...]:
    """Return every Python file that people wrote."""
    found = []
    for folder in SOURCE_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if (ROOT / "proto" / "gen") not in path.parents:
                text = path.read_text(encoding="utf-8")
                found.append(Source(path, text, ast.parse(text)))
    return tuple(found)


def under(*prefixes: str) -> Iterator[Source]:
    """Yield the files below these folders."""
    yield from (file for file in sources() if file.name.startswith(prefixes))


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Return the name and content of every text file of the project."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in TEXT_FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return tuple(
        (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for path in sorted(files)
        if path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts
    )


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its decorators and docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        text = node.body[0]
        lines -= (text.end_lineno or text.lineno) - text.lineno + 1
    return lines


def is_type_checking(node: ast.AST) -> bool:
    """Tell whether `node` is `if TYPE_CHECKING:`, whose imports do not run."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports_of(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run, those inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not is_type_checking(child):
            yield from imports_of(child)


def imported_modules(file: Source, known: Iterable[str] = ()) -> Iterator[str]:
    """Yield the modules a file imports; `from a import b` is a.b where that exists."""
    for node in imports_of(file.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else str(node.module)


def exported_names(tree: ast.Module) -> list[str] | None:
    """Return the `__all__` of a module, or None where there is none."""
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(
                    target=ast.Name(id="__all__"), value=ast.expr() as value
                )
            ):
                names: list[str] = ast.literal_eval(value)
                return names
            case _:
                continue
    return None


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Tell whether a decorator hands `node` to a command group: nobody imports it."""
    return any(
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Attribute)
        and decorator.func.attr in {"command", "group"}
        and ast.dump(decorator.func.value) != ast.dump(ast.Name("click", ast.Load()))
        for decorator in node.decorator_list
    )


def bound_names(nodes: Iterable[ast.stmt]) -> Iterator[tuple[str, bool]]:
    """Yield each name bound at the top level, and whether it is a definition."""
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, not is_command(node)
            case ast.Assign(targets=targets):
                yield from ((t.id, False) for t in targets if isinstance(t, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, False
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((alias.asname or alias.name, False) for alias in aliases)
            case ast.If(body=body, orelse=orelse) if not is_type_checking(node):
                yield from bound_names([*body, *orelse])
            case ast.Try(body=body, handlers=handlers):
                yield from bound_names(body)
                for handler in handlers:
                    yield from bound_names(handler.body)
            case _:
                continue
