"""A bucket of S3-compatible object storage: the few requests that blobs need, and errors that say what to do.

The only place that imports obstore, and only when a bucket is really used. Credentials come from the standard AWS variables at that
moment; they are in no address, no file of the home, and no message.
"""

import contextlib
import datetime as dt
import io
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from msgspec import Struct

from treadle.records.errors import TreadleError

SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*")
_HOST = re.compile(r"https?://[^/?#@\s]+/?")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
#: Objects arrive in pieces of about this size. Larger ones than a part go up in parts, never more than S3's 10,000.
_PIECE = 1 << 20
_PART = 8 << 20
_PARTS = 9_000
_AT_ONCE = 4
#: One request is tried again so often, and for at most so many seconds; one that hears nothing for so long has failed. Whoever sends a
#: part hears nothing until all of it has arrived, and is given more time.
RETRIES, RETRY_S, SILENCE_S = 4, 20.0, 15.0
_SENDING = 4
#: What servers say in so many words.
_SAID = {
    "NoSuchBucket": "bucket",
    "PermanentRedirect": "region",
    "AuthorizationHeaderMalformed": "region",
    "IllegalLocationConstraintException": "region",
    "RequestTimeTooSkewed": "clock",
    "ExpiredToken": "expired",
    "QuotaExceeded": "full",
    "XMinioStorageFull": "full",
    "InsufficientStorage": "full",
}
_LOOK = "Look at the endpoint and the network (AWS_ENDPOINT_URL), then repeat the call: treadle doctor"
_MAKE = "Make it with your provider's tools, or correct --blobs or AWS_ENDPOINT_URL: treadle blobs where"
_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of one who may list, read, write and delete there; ~/.aws is not read."


class Address(Struct, frozen=True):
    """Where blobs are: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`, all but the bucket optional."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""

    def __str__(self) -> str:
        asked = urlencode({k: v for k, v in (("endpoint", self.endpoint), ("region", self.region)) if v}, safe=":/")
        return self.place + (f"?{asked}" if asked else "")

    @property
    def place(self) -> str:
        """Without the way there: the same bucket and prefix are the same place."""
        return f"{SCHEME}{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    def resolved(self, environment: Mapping[str, str]) -> "Address":
        """With endpoint and region filled in from the AWS variables, which come before what was recorded: a server may move."""
        endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or self.endpoint
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or self.region
        return Address(self.bucket, self.prefix, endpoint.rstrip("/"), region)


def address(url: str) -> Address:
    """Read an address.

    >>> address("s3://models/team/a?endpoint=http://127.0.0.1:9000").place
    's3://models/team/a'

    Raises:
        TreadleError: one of another form, or with credentials in it.
    """
    parts = urlsplit(url)
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    prefix = parts.path.strip("/")
    example = "Write s3://BUCKET/PREFIX, and where it is not Amazon's: s3://BUCKET/PREFIX?endpoint=https://HOST"
    if "@" in parts.netloc or set(asked) - {"endpoint", "region"} or "@" in asked.get("endpoint", ""):
        raise TreadleError(
            "The address of the blobs has more in it than a bucket, a prefix, an endpoint and a region.",
            remedy="Give credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, never in the address.",
        )
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc):
        raise TreadleError(f"{url[:200]!r} is no address of a bucket.", remedy=example)
    if prefix and (not _PREFIX.fullmatch(prefix) or set(prefix.split("/")) & {".", ".."}):
        raise TreadleError(f"{prefix[:200]!r} is no prefix within a bucket.", remedy=example)
    if asked.get("endpoint") and not _HOST.fullmatch(asked["endpoint"]):
        raise TreadleError(f"{asked['endpoint'][:200]!r} is no endpoint.", remedy=example)
    return Address(parts.netloc, prefix, asked.get("endpoint", "").rstrip("/"), asked.get("region", ""))


class Seen(Struct, frozen=True):
    """What the bucket knows of an object. `changed` is the server's clock, to the second."""

    key: str
    size: int
    changed: dt.datetime


class Bucket:
    """Requests under one prefix of a bucket, each tried again a bounded number of times where the server or the network failed.

    Every method raises `TreadleError(code="unavailable")`, with `details["cause"]` one of `credentials`, `bucket`, `endpoint`, where
    the bucket cannot be used, and `storage_full` where it takes no more.

    Args:
        address: where it is.
        retry_s: seconds within which a failed request is tried again; four times that for what is sent.
        silence_s: seconds without a byte after which a request has failed; likewise.
    """

    def __init__(self, address: Address, *, retry_s: float = RETRY_S, silence_s: float = SILENCE_S):
        self.address = address.resolved(os.environ)
        self._times = {"retry": dt.timedelta(seconds=retry_s), "silence": dt.timedelta(seconds=silence_s)}
        self._made: dict[bool, Any] = {}
        self._api: Any = None

    def head(self, key: str) -> Seen | None:
        """What is known of an object, None where there is none."""
        with self._asking(key) as (store, api):
            try:
                return _seen(api.head(store, key))
            except FileNotFoundError:
                return None

    def get(self, key: str) -> bytes | None:
        """All of an object, None where there is none."""
        with self._asking(key) as (store, api):
            try:
                return bytes(api.get(store, key).bytes())
            except FileNotFoundError as error:
                self._no_bucket(error)
                return None

    def open(self, key: str, start: int = 0) -> "ObjectFile | None":
        """An object as a file that is read as it arrives, beginning at a byte that it has; None where there is none."""
        with self._asking(key) as (store, api):
            try:
                found = api.get(store, key, options={"range": {"offset": start}} if start else None)
            except FileNotFoundError as error:
                self._no_bucket(error)
                return None
            return ObjectFile(self, key, found.meta["size"], start, self._arriving(key, iter(found.stream(_PIECE))))

    def put(self, key: str, content: bytes | Path) -> None:
        """Store an object, whole or not at all; a large file goes up in parts."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        part = max(_PART, -(-size // _PARTS))
        with self._asking(key, sending=True) as (store, api):
            if size <= part:
                api.put(store, key, content if isinstance(content, bytes) else content.read_bytes(), use_multipart=False)
            else:
                api.put(store, key, content, chunk_size=part, max_concurrency=_AT_ONCE)

    def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        with self._asking(keys[0] if keys else "") as (store, api):
            api.delete(store, keys)

    def list(self, prefix: str) -> Iterator[Seen]:
        """Every object under a prefix that ends at a slash, by key."""
        with self._asking(prefix) as (store, api):
            pages = iter(api.list(store, prefix))
        while True:
            with self._asking(prefix):
                page = next(pages, None)
            if page is None:
                return
            yield from map(_seen, page)

    def _arriving(self, key: str, pieces: Iterator[Any]) -> Iterator[bytes]:
        while True:
            with self._asking(key):
                piece = next(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    @contextlib.contextmanager
    def _asking(self, key: str, *, sending: bool = False) -> Iterator[tuple[Any, ModuleType]]:
        if sending not in self._made:
            self._made[sending] = self._connect(_SENDING if sending else 1)
        try:
            yield self._made[sending], self._api
        except self._api.exceptions.BaseError as error:
            raise self._error(error, key) from None  # its text repeats the server's, which may repeat credentials
        except FileNotFoundError as error:  # of what cannot be missing, unless all is
            raise self._error(error, "") from None

    def _connect(self, times: int) -> Any:
        """A client with so many times the patience."""
        try:
            import obstore  # noqa: PLC0415  (an extra, and only homes with a bucket pay for it)
            import obstore.exceptions  # noqa: PLC0415
            import obstore.store  # noqa: PLC0415
        except ImportError as error:
            raise TreadleError(
                "Blobs in object storage need the package obstore, which is not installed.",
                remedy="pip install 'treadle[s3]'",
                code="missing_extra",
            ) from error
        told: Any = {"endpoint": self.address.endpoint} if self.address.endpoint else {}
        told |= {"region": self.address.region} if self.address.region else {}
        plain = self.address.endpoint.startswith("http://")
        if plain and not _loopback(self.address.endpoint) and os.environ.get("AWS_ALLOW_HTTP", "").lower() not in ("1", "true"):
            raise TreadleError(
                f"{self.address.endpoint} is not encrypted: blobs and signatures would travel in the clear.",
                remedy="Use its https:// address; where the network between is yours alone, allow it: export AWS_ALLOW_HTTP=true",
                code="unavailable",
                details={"cause": "endpoint"},
            )
        silence, retry = self._times["silence"] * times, self._times["retry"] * times
        options: Any = {"allow_http": plain, "connect_timeout": "5s", "read_timeout": silence, "timeout": "12h"}
        again: Any = {"max_retries": RETRIES, "retry_timeout": retry, "backoff": {"max_backoff": dt.timedelta(seconds=2)}}
        self._api = obstore
        return obstore.store.S3Store(
            self.address.bucket, prefix=self.address.prefix or None, config=told, client_options=options, retry_config=again
        )

    def _no_bucket(self, error: Exception) -> None:
        if "<Code>NoSuchBucket</Code>" in str(error):
            raise self._error(error, "") from None

    def _error(self, error: Exception, key: str) -> TreadleError:
        text = str(error)
        status, code = (int(m[1]) if (m := _STATUS.search(text)) else 0), (m[1] if (m := _CODE.search(text)) else "")
        said = f" (HTTP {status}{f', {code}' if code else ''})" if status else ""
        place, bucket, endpoint = self.address.place, self.address.bucket, self.address.endpoint or "Amazon's endpoint"
        kind = _kind(status, code, text, key)
        if kind == "full":
            what = f"{place} takes no more{said}; the blob was not written and nothing refers to it."
            return TreadleError(what, remedy="Raise its quota, or free space: treadle gc --dry-run", code="storage_full")
        what, remedy = {
            "bucket": (f"{endpoint} has no bucket {bucket!r}{said}.", _MAKE),
            "region": (f"Bucket {bucket!r} is in another region{said}.", "Name it: export AWS_REGION=…"),
            "clock": (f"{place} was refused{said}: this machine's clock differs too much from the server's.", "timedatectl set-ntp true"),
            "expired": (f"{place} was refused{said}: the session token has expired.", _CREDENTIALS),
            "credentials": (f"{place} was refused{said}: the credentials are wrong, or not allowed to do this.", _CREDENTIALS),
            "nobody": (f"There are no credentials for {place}: none in the environment, and no machine's role.", _CREDENTIALS),
            "error": (f"The object storage of {place}, {endpoint}, answers with errors{said}.", _LOOK),
            "silent": (f"The object storage of {place}, {endpoint}, does not answer.", _LOOK),
            "request": (f"{endpoint} refused a request for {key or place}{said}.", _LOOK),
        }[kind]
        cause = {"bucket": "bucket", "region": "bucket", "error": "endpoint", "silent": "endpoint", "request": "endpoint"}
        details = {"cause": cause.get(kind, "credentials")}
        return TreadleError(what, remedy=remedy, code="unavailable", details=details)


def _kind(status: int, code: str, text: str, key: str) -> str:
    """What is wrong, by what the server said, or by what the client says of its silence."""
    if code in _SAID:
        return _SAID[code]
    if status == 404 and not key:
        return "bucket"
    if status in (401, 403):
        return "credentials"
    if status == 507:
        return "full"
    if status:
        return "error" if status >= 500 or status == 429 else "request"
    return "nobody" if any(word in text.lower() for word in ("credential", "/latest/api/token", "/latest/meta-data")) else "silent"


class ObjectFile(io.RawIOBase):
    """An object as a file: read as it arrives, from wherever one seeks to; never more in memory than a piece or two."""

    def __init__(self, bucket: Bucket, key: str, size: int, start: int, pieces: Iterator[bytes]):
        super().__init__()
        self._bucket, self._key, self.size = bucket, key, size
        self._at = start
        self._pieces: Iterator[bytes] | None = pieces
        self._held = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes; another place is another request."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        if at != self._at:
            self._at, self._pieces, self._held = at, None, memoryview(b"")
        return at

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes; fewer only at the end."""
        if size is None or size < 0:
            return self.readall()
        held = bytearray()
        while len(held) < size and (piece := super().read(size - len(held))):
            held += piece
        return bytes(held)

    def readinto(self, buffer: Any) -> int:
        """Some bytes, 0 at the end."""
        while not self._held:
            if self._at >= self.size:
                return 0
            if self._pieces is None:
                self._again()
            piece = next(self._pieces, None) if self._pieces is not None else None
            if piece is None:
                return 0  # it ends too early, or has gone meanwhile: whoever counts or verifies sees that
            self._held = memoryview(piece)
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        self._at += count
        return count

    def _again(self) -> None:
        found = self._bucket.open(self._key, self._at)
        self._pieces = None if found is None else found._pieces  # noqa: SLF001  (of its own kind)

    def close(self) -> None:
        """Let go of the connection."""
        self._pieces, self._held = None, memoryview(b"")
        super().close()


def _seen(meta: Any) -> Seen:
    return Seen(meta["path"], meta["size"], meta["last_modified"])


def _loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
