"""Generate the package `raftpb` from the API description in `proto/raftpb`.

Rules:
    * `proto/gen` holds what this program writes and nothing else; it is committed.
    * The proto package equals the Python package, so imports are right as they come.
    * `--check` changes nothing and says in one sentence what is stale.

Source: docs/adr/0002-dependencies.md (why the generators are pinned).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

PROTO_ROOT = Path(__file__).resolve().parent
GENERATED_ROOT = PROTO_ROOT / "gen"
PACKAGE = Path("raftpb")

PACKAGE_FILES = {
    PACKAGE / "__init__.py": '"""The API of raftd as generated code."""\n',
    PACKAGE / "py.typed": "",
    PACKAGE / "v1" / "__init__.py": (
        '"""Version 1 of the API: one module per file of proto/raftpb/v1."""\n'
    ),
}


class GenerateError(Exception):
    """The description could not be turned into code; the text is one sentence."""


def run_protoc(target: Path) -> None:
    """Write the modules, service stubs and type stubs of every .proto file.

    Args:
        target: An existing folder that receives the package.

    Raises:
        GenerateError: protoc refused the description; mend it and run again.
    """
    sources = sorted(
        str(path.relative_to(PROTO_ROOT))
        for path in (PROTO_ROOT / PACKAGE).rglob("*.proto")
    )
    if not sources:
        raise GenerateError(f"no .proto files under {PROTO_ROOT / PACKAGE}")
    tools = Path(sys.executable).parent
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={PROTO_ROOT}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={tools / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={tools / 'protoc-gen-mypy_grpc'}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        *sources,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GenerateError(f"protoc refused the description:\n{done.stderr.strip()}")


def generated() -> dict[Path, bytes]:
    """Return what `proto/gen` must hold: contents by path relative to it."""
    with tempfile.TemporaryDirectory(prefix="raftpb-") as name:
        target = Path(name)
        run_protoc(target)
        for path, text in PACKAGE_FILES.items():
            (target / path).write_text(text, encoding="utf-8")
        return contents(target)


def contents(root: Path) -> dict[Path, bytes]:
    """Return the contents of every file under `root`, compiled Python aside."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def stale_files(wanted: dict[Path, bytes], present: dict[Path, bytes]) -> list[Path]:
    """Return the paths that are missing, different or left over, in order."""
    return sorted(
        path
        for path in wanted.keys() | present.keys()
        if wanted.get(path) != present.get(path)
    )


def write(wanted: dict[Path, bytes], stale: list[Path]) -> None:
    """Make `proto/gen` hold exactly `wanted`, touching only the stale files."""
    for path in stale:
        target = GENERATED_ROOT / path
        if path in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wanted[path])
        else:
            target.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Generate, or compare; return the exit code."""
    parser = argparse.ArgumentParser(description="Generate proto/gen.")
    parser.add_argument(
        "--check", action="store_true", help="compare only, change nothing"
    )
    options = parser.parse_args(arguments)
    try:
        wanted = generated()
    except GenerateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = stale_files(wanted, contents(GENERATED_ROOT))
    if not options.check:
        write(wanted, stale)
        print(f"proto/gen: {len(wanted)} files, {len(stale)} written")
        return 0
    if stale:
        names = ", ".join(str(path) for path in stale[:3])
        more = f" and {len(stale) - 3} more" if len(stale) > 3 else ""
        print(
            f"error: proto/gen is stale ({names}{more}): run 'make proto' and commit"
            " the result.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
