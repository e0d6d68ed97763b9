"""Nodes on disks that a test can fill up or freeze, and on disks that fail by order.

A small disk is a tmpfs in a mount namespace of the node's own, so no privilege is
needed where the machine lets users make namespaces; the test reaches it through the
node's entry in /proc. A freezing disk is an image on a loop device, which only root may
mount. A faulty disk is a shim between the node and its C library, made with the
machine's compiler: what it does to the syncs of log.db is written in a file that it
reads at each of them.

Source: RELIABILITY.md section 5 (slow, hung and full disk, fsync EIO).
"""

from __future__ import annotations

import atexit
import errno
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

from cluster.processes import Processes

__all__ = [
    "BALLAST_FLAGS",
    "OnFaultyDisks",
    "OnFreezingDisks",
    "OnSmallDisks",
    "needs_compiler",
    "needs_loop_devices",
    "needs_namespaces",
]

_IMAGE_BYTES: Final = 64 << 20
DISK_MIB: Final = 64
"""Room for a write-ahead log of 16 MiB, and all it is folded into."""
BALLAST_FLAGS: Final = ("--ballast-bytes", str(4 << 20))
_COMPILER: Final = shutil.which("cc") or shutil.which("gcc")
_FILLER: Final = "filler"
_MOUNT: Final = f'mount -t tmpfs -o size={DISK_MIB}m,mode=700 tmpfs "$0" && exec "$@"'
_MOUNT_IMAGE: Final = 'mount -o loop "$0.image" "$0" && exec "$@"'
_IMAGE_TOOLS: Final = ("unshare", "nsenter", "fsfreeze", "mkfs.ext4")

_SHIM: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int order(char *text, size_t size) {
    int file = open(getenv("DISK_ORDERS"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t got = read(file, text, size - 1);
    close(file);
    text[got > 0 ? got : 0] = 0;
    return got > 0;
}

static int is_log(int file) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, name, sizeof name - 1);
    if (size < 0) return 0;
    name[size] = 0;
    return strstr(name, "/log.db") != NULL;
}

static int sync_with(const char *real, int file) {
    char text[64];
    if (is_log(file) && order(text, sizeof text)) {
        if (!strncmp(text, "fail", 4)) { errno = EIO; return -1; }
        if (!strncmp(text, "slow", 4)) usleep(1000 * atoi(text + 4));
        while (!strncmp(text, "hang", 4)) {
            usleep(10000);
            if (!order(text, sizeof text)) break;
        }
    }
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, real);
    return sync(file);
}

int fdatasync(int file) { return sync_with("fdatasync", file); }
int fsync(int file) { return sync_with("fsync", file); }
"""


class OnSmallDisks(Processes):
    """Each node's data directory is a small disk; what is there ends with the node."""

    def command(self, node_id: int) -> list[str]:
        """Mount the disk first."""
        self.data_dir(node_id).mkdir(parents=True, exist_ok=True)
        mount = ["unshare", "-rm", "sh", "-c", _MOUNT, str(self.data_dir(node_id))]
        return [*mount, *super().command(node_id)]

    def disk(self, node_id: int) -> Path:
        """The data directory, as the node sees it."""
        return Path(f"/proc/{self.pid(node_id)}/root{self.data_dir(node_id)}")

    def fill(self, node_id: int) -> None:
        """Take all the room that is left."""
        with (self.disk(node_id) / _FILLER).open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                while True:
                    try:
                        file.write(bytes(size))
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        break

    def free(self, node_id: int) -> None:
        """Give it back."""
        (self.disk(node_id) / _FILLER).unlink()


class OnFreezingDisks(Processes):
    """Each node's data directory is a file system of its own that can be frozen."""

    def command(self, node_id: int) -> list[str]:
        """Mount it first, where only the node sees it; gone when the node is."""
        data_dir = str(self.data_dir(node_id))
        _make_image(data_dir)
        mount = ["unshare", "-m", "sh", "-c", _MOUNT_IMAGE, data_dir]
        return [*mount, *super().command(node_id)]

    def freeze(self, node_id: int) -> None:
        """Let whoever writes there wait."""
        self._fsfreeze(node_id, "-f")

    def thaw(self, node_id: int) -> None:
        """Let them go on."""
        self._fsfreeze(node_id, "-u")

    def _fsfreeze(self, node_id: int, flag: str) -> None:
        enter = ["nsenter", "-t", str(self.pid(node_id)), "-m"]
        command = [*enter, "fsfreeze", flag, str(self.data_dir(node_id))]
        subprocess.run(command, check=True, timeout=60)


class OnFaultyDisks(Processes):
    """Each sync of a node's log does what the node's orders say."""

    def command(self, node_id: int) -> list[str]:
        """Put the shim between."""
        environment = (
            f"LD_PRELOAD={_shim()}",
            f"DISK_ORDERS={self._orders(node_id)}",
        )
        return ["env", *environment, *super().command(node_id)]

    def order(self, node_id: int, order: str) -> None:
        """Have a node's disk "fail", "hang", be "slow 100" (ms), or "" work."""
        unfinished = self._orders(node_id).with_suffix(".new")
        unfinished.write_text(order)
        unfinished.rename(self._orders(node_id))

    def _orders(self, node_id: int) -> Path:
        data_dir = self.data_dir(node_id)
        return data_dir.with_name(f"{data_dir.name}.orders")


@functools.cache
def _shim() -> Path:
    """Make the shim, once."""
    assert _COMPILER is not None, "marked with `needs_compiler`"
    folder = Path(tempfile.mkdtemp(prefix="faulty-disk-"))
    atexit.register(shutil.rmtree, folder)
    source, shim = folder / "shim.c", folder / "shim.so"
    source.write_text(_SHIM)
    flags = ("-shared", "-fPIC", "-O1")
    command = [_COMPILER, *flags, "-o", str(shim), str(source), "-ldl"]
    made = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if made.returncode:
        pytest.skip(f"{_COMPILER} cannot make a library here: {made.stderr!r}")
    return shim


def _make_image(data_dir: str) -> None:
    image = Path(f"{data_dir}.image")
    Path(data_dir).mkdir(parents=True, exist_ok=True)
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        make = ["mkfs.ext4", "-q", "-F", str(image)]
        subprocess.run(make, check=True, capture_output=True, timeout=60)


@functools.cache
def _may_mount_images() -> bool:
    """Try whether this user may mount an image."""
    if not all(map(shutil.which, _IMAGE_TOOLS)):
        return False
    with tempfile.TemporaryDirectory() as folder:
        data_dir = f"{folder}/data"
        _make_image(data_dir)
        command = ["unshare", "-m", "sh", "-c", _MOUNT_IMAGE, data_dir, "true"]
        tried = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return tried.returncode == 0


@functools.cache
def _may_mount() -> bool:
    """Try whether this user may mount a disk in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "-rm", "sh", "-c", _MOUNT, folder, "true"]
        tried = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return tried.returncode == 0


needs_compiler: Final = pytest.mark.skipif(
    _COMPILER is None, reason="needs a C compiler (cc or gcc) to make a disk fail"
)
needs_loop_devices: Final = pytest.mark.skipif(
    not _may_mount_images(),
    reason="needs root, loop devices, mkfs.ext4 and fsfreeze to freeze a file system",
)
needs_namespaces: Final = pytest.mark.skipif(
    not _may_mount(),
    reason="needs `unshare -rm` and a tmpfs in it: this user may not mount here",
)
