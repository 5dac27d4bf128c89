"""Which addresses webhooks may have: the hosts that the operator names, and no other.

A server that calls any address it is given can be made to call what only it can reach: its own loopback, the cloud's metadata service.
TREADLE_WEBHOOK_HOSTS names the hosts with commas between: `hooks.example.com`, `*.example.com` (every host below it, over https), or
`127.0.0.1:9000`. Only a host that stands there literally may be reached by http, or at an address that is not of the public internet.
"""

import os
from urllib.parse import urlsplit

from treadle.records.errors import TreadleError
from treadle.tracking.limits import check_text

SETTING = "TREADLE_WEBHOOK_HOSTS"


def check_address(url: str) -> bool:
    """Raises for an address that this server may not call; whether its host is named literally, so that it may be an inner one."""
    check_text(url, "address", 2000, needed=True)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise _refused(url, str(error)) from error
    if not url.isprintable() or " " in url or parts.scheme not in ("https", "http") or not host:
        raise _refused(url, "it is no https address")
    if parts.username is not None or parts.password is not None:
        raise _refused(url, "it has a name or password in it")
    allowed = allowed_hosts()
    if host in allowed or (port and f"{host}:{port}" in allowed):
        return True
    if not any(name.startswith("*.") and host.endswith(name[1:]) for name in allowed):
        raise _refused(url, f"{SETTING} does not name its host", remedy=f"Have the operator start server and workers with {SETTING}={host}")
    if parts.scheme != "https":
        raise _refused(url, "it is not https", remedy=f"Use https, or have the operator name the host itself in {SETTING}.")
    return False


def allowed_hosts() -> frozenset[str]:
    """Hosts that this server may call: the setting's."""
    return frozenset(name.strip().lower() for name in os.environ.get(SETTING, "").split(",") if name.strip())


def _refused(url: str, why: str, remedy: str = "") -> TreadleError:
    return TreadleError(
        f"The address {url[:200]!a} is refused: {why}.",
        remedy=remedy or f"Use https and a host that {SETTING} names.",
        details={"field": "url"},
    )
