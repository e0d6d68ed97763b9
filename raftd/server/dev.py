"""A cluster on this machine: a process a node, started again if one ends.

The data stays in the given folder, so the cluster goes on where it was, on the ports
that are kept with it; other ports may be asked for at any start, as members know each
other by their ids.

Source: DESIGN.md section 8.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Final

import click
import msgspec

from raftd.storage.errors import BAD_BYTES

__all__ = ["DevError", "choose_ports", "run_dev"]

_HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 7400
_PORTS_PER_NODE: Final = 10
_RESTART_S: Final = 1.0
_STOP_S: Final = 15.0

_Ports = list[tuple[int, int, int]]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_KeptPorts = list[tuple[_Port, _Port, _Port]]


class DevError(Exception):
    """The cluster cannot be run; the sentence says why."""


async def run_dev(nodes: int, data_dir: Path, port: int | None) -> int:
    """Run a cluster until SIGINT or SIGTERM.

    Args:
        nodes: How many, 1 to 7.
        data_dir: One folder a node below it.
        port: Client port of the first node; 0 = any that is free at the first start;
            None = those of the last time, or else from 7400 on.

    Raises:
        DevError: A port is taken, or the folder holds another cluster.
    """
    ports = choose_ports(nodes, data_dir, port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    endpoints = ",".join(f"{_HOST}:{client}" for client, _, _ in ports)
    click.echo(f"raftd: {nodes} node(s), data in {data_dir}/, logs beside it")
    click.echo(f"  export RAFTCTL_ENDPOINTS={endpoints}")
    click.echo("  raftctl status")
    click.echo(f'  python: raftclient.connect("{endpoints}")')
    click.echo("Ctrl-C stops it.")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as group:
        for index in range(nodes):
            group.create_task(_keep_node(index + 1, ports, data_dir, stop))
    return 0


def choose_ports(nodes: int, data_dir: Path, port: int | None) -> _Ports:
    """Choose the ports, or find those of the last time."""
    file = data_dir / "ports.json"
    chosen: _Ports | None = None
    if file.exists():
        try:
            kept = msgspec.json.decode(file.read_bytes(), type=_KeptPorts)
        except BAD_BYTES as error:
            raise DevError(
                f"{file} cannot be read; restore it, or give another --data-dir"
            ) from error
        if len(kept) != nodes:
            raise DevError(
                f"{data_dir} holds a cluster of {len(kept)} nodes, not of {nodes};"
                " give another --data-dir"
            )
        chosen = kept if port in (None, 0, kept[0][0]) else None
    if chosen is None:
        chosen = _new_ports(nodes, FIRST_PORT if port is None else port)
    for row in chosen:
        for number in row:
            _check_free(number)
    data_dir.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(chosen))
    return chosen


def _new_ports(nodes: int, port: int) -> _Ports:
    if not port:
        return _free_ports(nodes)
    return [
        (first, first + 1, first + 2)
        for first in range(port, port + nodes * _PORTS_PER_NODE, _PORTS_PER_NODE)
    ]


def _free_ports(nodes: int) -> _Ports:
    """Choose ports below those that outgoing connections get."""
    found: dict[int, None] = {}
    while len(found) < 3 * nodes:
        number = random.randrange(10_240, 32_000)
        with contextlib.suppress(DevError):
            _check_free(number)
            found[number] = None
    numbers = list(found)
    return [
        (numbers[i], numbers[i + 1], numbers[i + 2]) for i in range(0, 3 * nodes, 3)
    ]


def _check_free(number: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, number))
        except OSError as error:
            raise DevError(
                f"port {number} on {_HOST} is in use; stop what uses it, or give"
                " another --port and --data-dir"
            ) from error


async def _keep_node(
    node_id: int, ports: _Ports, data_dir: Path, stop: asyncio.Event
) -> None:
    """Run one node, again and again until told to stop."""
    while not stop.is_set():
        process = await _start_node(node_id, ports, data_dir)
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_S):
                    await asyncio.shield(ended)
            except TimeoutError:
                process.kill()
                await ended
            return
        log = data_dir / f"n{node_id}.log"
        click.echo(
            f"node {node_id} ended ({process.returncode}), see {log}; restarting"
        )
        try:
            async with asyncio.timeout(_RESTART_S):
                await stop.wait()
        except TimeoutError:
            continue


async def _start_node(
    node_id: int, ports: _Ports, data_dir: Path
) -> asyncio.subprocess.Process:
    members = ",".join(
        f"{i}=n{i}@{_HOST}:{peer}/{_HOST}:{client}"
        for i, (client, peer, _) in enumerate(ports, start=1)
    )
    client, peer, http = ports[node_id - 1]
    with (data_dir / f"n{node_id}.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "raftd.server.main",
            "serve",
            *("--node-id", str(node_id), "--members", members),
            *("--cluster", "dev", "--data-dir", str(data_dir / f"n{node_id}")),
            *("--client-listen", f"{_HOST}:{client}"),
            *("--peer-listen", f"{_HOST}:{peer}"),
            *("--http-listen", f"{_HOST}:{http}"),
            stdout=log,
            stderr=log,
            env={k: v for k, v in os.environ.items() if not k.startswith("RAFTD_")},
            start_new_session=True,
        )
