#!/usr/bin/env bash
# Build the image, start the three-node cluster, run the demo's checks against it from
# this machine (the leader's container is killed on the way and started again), and
# take everything down.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! docker info >/dev/null 2>&1; then
  echo "error: no Docker engine answers; start one and try again" >&2
  exit 1
fi
exec .venv/bin/python -m cluster.demo --containers "$@"
