"""A disk of a few megabytes for a test: a tmpfs that only one process sees.

Mounting needs a mount namespace of one's own: root may make one, and many systems let
everybody do so together with a user namespace. Where neither works, `lend` says why.

As a program it runs one scenario of `full_disk` on the disk that was mounted for it.
"""

import subprocess
import sys
from pathlib import Path

__all__ = ["WhyNot", "run"]

_REPOSITORY = Path(__file__).parents[2]
_MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
#: With and without a user namespace; root on a plain system needs none.
_NAMESPACES = (["--mount"], ["--mount", "--user", "--map-root-user"])


class WhyNot(Exception):
    """The sentence says why this machine lends no small disk."""


def run(scenario: str, mount_point: Path, size_bytes: int) -> str:
    """Run a scenario on a small disk; returns what it printed.

    Raises:
        WhyNot: There is no way to mount one here.
    """
    namespace = _find_namespace(mount_point)
    command = [sys.executable, "-m", "tests.storage.full_disk", scenario]
    done = subprocess.run(
        [
            *("unshare", *namespace, "sh", "-c", _MOUNT, "sh"),
            *(str(size_bytes), str(mount_point)),
            *(*command, str(mount_point)),
        ],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{scenario}: {done.stdout}{done.stderr}"
    return done.stdout


def _find_namespace(mount_point: Path) -> list[str]:
    complaints = []
    for options in _NAMESPACES:
        try:
            tried = subprocess.run(
                [
                    *("unshare", *options, "sh", "-c", _MOUNT, "sh"),
                    *("65536", str(mount_point), "true"),
                ],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except OSError as error:
            raise WhyNot(f"unshare cannot be run: {error}") from error
        if tried.returncode == 0:
            return options
        complaints.append(" ".join(tried.stderr.split()))
    raise WhyNot(f"no tmpfs can be mounted: {'; '.join(complaints)}")
