"""Health and metrics over HTTP, for load balancers and Prometheus.

``/health`` answers 200 while the process lives, ``/ready`` 200 while the member may be
counted on (see ``raftd.node.readiness``) and 503 otherwise, ``/metrics`` the Prometheus
text format.

Source: DESIGN.md section 8.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from raftd.consensus.types import Role
from raftd.node.node import Node
from raftd.transport.links import ListenFailed

__all__ = ["HttpServer"]

_logger = logging.getLogger(__name__)


class HttpServer:
    """A small server on a thread of its own; it only reads."""

    def __init__(self, node: Node) -> None:
        """Serve a node's health and metrics."""
        self._registry: Final = _registry(node)
        self._node: Final = node
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port.

        Raises:
            ListenFailed: The port cannot be had.
        """
        node, registry = self._node, self._registry

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:  # the library's name
                if self.path == "/health":
                    self._send(200, b"ok\n")
                elif self.path == "/ready":
                    is_ready = node.readiness.is_ready
                    self._send(
                        200 if is_ready else 503,
                        b"ready\n" if is_ready else b"not ready\n",
                    )
                elif self.path == "/metrics":
                    self._send(200, generate_latest(registry))
                else:
                    self._send(404, b"try /health, /ready or /metrics\n")

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet: a probe a second is no news."""

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise ListenFailed(
                f"cannot listen for HTTP on {host}:{port}: {error.strerror or error}"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="http", daemon=True
        )
        self._thread.start()
        return int(self._server.server_address[1])

    async def stop(self) -> None:
        """End it; may be called twice."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            with contextlib.suppress(OSError):
                server.server_close()


class _Server(ThreadingHTTPServer):
    """A thread per connection, each ended by its timeout."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what is wrong here; who hangs up early is no news (the library's)."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            _logger.error("http_failed from=%s", client_address, exc_info=error)


def _registry(node: Node) -> CollectorRegistry:
    registry = CollectorRegistry()
    core, machine = node.driver.replica.core, node.machine
    sources = {
        "raftd_term": ("Raft's term", lambda: core.term),
        "raftd_is_leader": ("1 if this member leads", lambda: core.role is Role.LEADER),
        "raftd_commit_index": ("committed entries", lambda: core.commit_index),
        "raftd_applied_index": ("applied entries", lambda: machine.applied_index),
        "raftd_revision": ("the state's revision", lambda: machine.revision),
        "raftd_leases": ("live leases and sessions", machine.leases.count),
        "raftd_keys": ("keys", lambda: machine.kv.count_all),
        "raftd_waiting_reserves": ("reserves that wait", lambda: len(node.reserves)),
        "raftd_watches": ("open watches", lambda: len(node.watches)),
        "raftd_streams": ("open session streams", lambda: len(node.streams)),
        "raftd_state_bytes": ("size of the state", lambda: machine.context.size_bytes),
        "raftd_log_sync_p50_us": ("median log write", node.driver.sync_times.p50_us),
    }
    for name, (text, source) in sources.items():
        Gauge(name, text, registry=registry).set_function(source)
    return registry
