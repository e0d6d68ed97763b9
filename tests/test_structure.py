"""The shape of the code base, kept by a test: sizes, imports, names, formats.

Each test states one rule of CONTRIBUTING.md and, when it fails, says where it is
broken and what to do. Generated code (proto/gen) is exempt from all of them.
"""

from __future__ import annotations

import ast
import graphlib
import importlib
import pkgutil
import re
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest

from raftd.consensus.roles import ROLE_TRANSITIONS
from raftd.statemachine import schema
from raftd.statemachine.schema.base import Command, Result
from tests.structure import (
    ROOT,
    Source,
    bound_names,
    exported_names,
    function_lines,
    imported_modules,
    sources,
    texts,
    under,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60  # the docstring aside: explaining is never too long

# What the two pure packages may import besides their own modules.
PURE_MODULES = frozenset(
    {
        "__future__",
        "abc",
        "base64",
        "bisect",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "math",
        "msgspec",
        "operator",
        "sortedcontainers",
        "string",
        "struct",
        "sys",
        "types",
        "typing",
        "unicodedata",
        "zlib",
    }
)
# A primitive is one basename, in each of these places as a file or a package.
PRIMITIVES = ("elections", "kv", "leases", "locks", "queues")
PRIMITIVE_PLACES = (
    "raftd/statemachine/{}.py",
    "raftd/statemachine/schema/{}.py",
    "proto/raftpb/v1/{}.proto",
    "raftd/api/{}.py",
)
GOLDEN_TAGS = ROOT / "tests" / "golden" / "command_tags.txt"


def none_of(broken: Iterable[str], rule: str) -> None:
    """Fail with the rule and every place that breaks it."""
    places = sorted(broken)
    if places:
        pytest.fail(rule + "\n  " + "\n  ".join(places), pytrace=False)


def test_every_primitive_has_its_files() -> None:
    none_of(
        (
            place.format(name)
            for name in PRIMITIVES
            for place in PRIMITIVE_PLACES
            if not (ROOT / place.format(name)).is_file()
            and not (ROOT / place.format(name)).with_suffix("").is_dir()
        ),
        "`git ls-files '*NAME*'` shows a whole primitive; these are missing:",
    )


def test_files_are_short() -> None:
    none_of(
        (
            f"{file.name}: {lines} lines"
            for file in sources()
            if (lines := file.text.count("\n")) > FILE_LINES_MAX
        ),
        f"A file has at most {FILE_LINES_MAX} lines; split it by idea:",
    )


def test_functions_are_short() -> None:
    none_of(
        (
            f"{file.name}:{node.lineno} {node.name}: {function_lines(node)} lines"
            for file in sources()
            for node in ast.walk(file.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and function_lines(node) > FUNCTION_LINES_MAX
        ),
        f"A function has at most {FUNCTION_LINES_MAX} lines; split where a name"
        " suggests itself:",
    )


def test_every_file_says_what_it_is() -> None:
    none_of(
        (
            file.name
            for file in sources()
            if file.text.strip() and ast.get_docstring(file.tree) is None
        ),
        "A file opens with a docstring: what it is, its rules, its source:",
    )


def test_no_import_cycle() -> None:
    known = {file.module for file in sources()}
    graph = {
        file.module: {name for name in imported_modules(file, known) if name in known}
        for file in sources()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        chain = " <- ".join(error.args[1])
        pytest.fail(f"Imports form no cycle; break this one: {chain}", pytrace=False)


def test_pure_packages_import_data_modules_only() -> None:
    pure = {"raftd/consensus/": "raftd.consensus", "raftd/statemachine/": "raftd.state"}
    none_of(
        (
            f"{file.name}: {name}"
            for folder, own in pure.items()
            for file in under(folder)
            for name in imported_modules(file)
            if not name.startswith(own) and name.split(".")[0] not in PURE_MODULES
        ),
        "consensus and statemachine take time, chance and I/O as arguments:",
    )


def nondeterministic(node: ast.AST) -> str:
    """Name what makes `node` differ between replicas, or return nothing."""
    match node:
        case ast.Constant(value=float()):
            return "a float"
        case ast.BinOp(op=ast.Div()):
            return "a division that gives a float"
        case ast.Call(func=ast.Name(id="hash" | "id" | "float" as name)):
            return f"{name}()"
        case ast.For(iter=ast.Set() | ast.SetComp()):
            return "iteration over a set"
        case ast.For(iter=ast.Call(func=ast.Name(id="set" | "frozenset"))):
            return "iteration over a set"
        case _:
            return ""


def test_apply_is_deterministic_by_construction() -> None:
    none_of(
        (
            f"{file.name}:{getattr(node, 'lineno', 0)}: {what}"
            for file in under("raftd/statemachine/")
            for node in ast.walk(file.tree)
            if (what := nondeterministic(node))
        ),
        "Every replica must compute the same bytes; use integers and ordered data:",
    )


def is_sleep(node: ast.AST) -> bool:
    """Tell whether `node` waits for time; sleep(0) only yields to the loop."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr="sleep")):
            is_found = module in {"asyncio", "time"}
        case ast.Call(func=ast.Name(id="sleep")):
            is_found = True
        case _:
            return False
    return is_found and [ast.dump(a) for a in node.args] != [ast.dump(ast.Constant(0))]


def test_tests_wait_for_events_and_not_for_time() -> None:
    none_of(
        (
            f"{file.name}:{getattr(node, 'lineno', 0)}"
            for file in under("tests/")
            if not file.name.startswith(("tests/e2e/", "tests/chaos/", "tests/bench/"))
            for node in ast.walk(file.tree)
            if is_sleep(node)
        ),
        "No sleep outside tests/e2e, chaos and bench; wait for the event itself:",
    )


def export_faults(file: Source) -> Iterator[str]:
    """Yield how `__all__` of a file differs from what the file offers."""
    exported = exported_names(file.tree)
    if exported is None:
        return
    bound = dict(bound_names(file.tree.body))
    counts = Counter(exported)
    yield from (f"{name} twice" for name, count in counts.items() if count > 1)
    yield from (f"{name} is not there" for name in exported if name not in bound)
    for name, is_definition in bound.items():
        if is_definition and not name.startswith("_") and name not in counts:
            yield f"{name} is public but missing"


def test_exports_are_true() -> None:
    # That they are sorted is ruff's rule RUF022, in `make lint`.
    none_of(
        (
            f"{file.name}: {fault}"
            for file in sources()
            for fault in export_faults(file)
        ),
        "`__all__` lists what a module offers, exactly:",
    )


_WAIVER = re.compile(r"#\s*(?:type:\s*ignore|noqa)\b(?:\[[\w, -]+\]|:\s*[A-Z0-9, ]+)?")


def test_waivers_carry_a_reason() -> None:
    none_of(
        (
            f"{file.name}:{number}"
            for file in sources()
            for number, line in enumerate(file.text.splitlines(), 1)
            if (found := _WAIVER.search(line))
            and not re.search(r"[A-Za-z]{2,} [A-Za-z]", line[found.end() :])
        ),
        "A `type: ignore[code]` or `noqa: CODE` is followed by its reason:",
    )


# Home folders and build roots of one machine; the interpreter's own are in #! lines.
_MACHINE = re.compile(r"(?<![\w.~$}])/(?:home|root|Users|work)/[\w.]")


def test_texts_do_not_speak_of_the_machine_they_were_written_on() -> None:
    none_of(
        (
            f"{name}:{number}"
            for name, text in texts()
            for number, line in enumerate(text.splitlines(), 1)
            if _MACHINE.search(line)
        ),
        "Paths of one developer's machine mean nothing to a reader:",
    )


def test_role_diagram_is_the_table_in_the_code() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    arrows = re.findall(r"^ +([A-Z_]+) --> ([A-Z_]+):", text, re.MULTILINE)
    assert len(set(arrows)) == len(arrows), "an arrow of the diagram is drawn twice"
    table = {(a.name, b.name) for a, after in ROLE_TRANSITIONS.items() for b in after}
    none_of(
        (f"{a} --> {b}" for a, b in table.symmetric_difference(arrows)),
        "docs/ARCHITECTURE.md draws exactly ROLE_TRANSITIONS; these differ:",
    )


def tagged_structs() -> Iterator[tuple[str, str]]:
    """Yield (`command 30`, `PutKey(key, ...)`) for each struct of the log."""
    for info in pkgutil.walk_packages(schema.__path__, f"{schema.__name__}."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if not isinstance(value, type) or value.__module__ != module.__name__:
                continue
            for family in (Command, Result):
                if issubclass(value, family) and value is not family:
                    names = ", ".join(
                        item.name for item in msgspec.structs.fields(value)
                    )
                    tag = value.__struct_config__.tag
                    yield (
                        f"{family.__name__.lower()} {tag}",
                        f"{value.__name__}({names})",
                    )


def test_command_tags_are_never_reused() -> None:
    """A log written once is read for ever: a changed command is a new tag."""
    golden = {
        " ".join(line.split()[:2]): line.split(maxsplit=2)[2]
        for line in GOLDEN_TAGS.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    found = list(tagged_structs())
    assert found, "no command was found: is the schema package still there?"
    twice = [
        tag for tag, count in Counter(tag for tag, _ in found).items() if count > 1
    ]
    none_of(twice, "A tag belongs to one struct:")
    current = dict(found)
    none_of(
        (f"{tag} {text}" for tag, text in current.items() if tag not in golden),
        f"New structs: append these lines to {GOLDEN_TAGS.relative_to(ROOT)}:",
    )
    none_of(
        (
            f"{tag} was {text}, is {current.get(tag, 'gone')}"
            for tag, text in golden.items()
            if text != "retired" and current.get(tag) != text
        ),
        "A released tag keeps its struct and fields: give the changed one a new tag,"
        " and write `retired` beside one that is gone:",
    )
