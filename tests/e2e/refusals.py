"""Nodes that must not start: run one, and read the one sentence it ends with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from cluster.processes import Processes

__all__ = ["end_of", "refused", "sentence_of"]

_END_S = 60


def refused(
    command: Sequence[str], code: int = 1, environ: Mapping[str, str] | None = None
) -> str:
    """Run a node that refuses to start; returns what it says, one sentence.

    Args:
        command: Its command line.
        code: What it must end with.
        environ: More variables.
    """
    variables = {k: v for k, v in os.environ.items() if "RAFT" not in k}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_END_S,
        check=False,
        env=variables | dict(environ or {}),
    )
    assert done.returncode == code, done.stderr
    assert not done.stdout
    return sentence_of(done.stderr)


def sentence_of(log: str) -> str:
    """Return what follows "error: " in the last line, which must be the only one."""
    assert "Traceback" not in log, log
    errors = [line for line in log.splitlines() if line.lower().startswith("error: ")]
    assert len(errors) == 1, log
    assert log.splitlines()[-1] == errors[0], log
    return errors[0].partition(": ")[2]


def end_of(nodes: Processes, node_id: int) -> str:
    """Wait until a started node ends by itself with code 1, and read its sentence."""
    assert nodes.wait(node_id) == 1, nodes.log(node_id)
    return sentence_of(nodes.log(node_id))
