"""A run that a script logs: `with treadle.run("churn") as run: run.log({"loss": 0.3}, step=1)`.

Logging writes to the run's journal (`treadle.client.journal`) and returns; a thread ships the journal to the home or server. Without
either the journal stays, and `treadle sync` sends it later: nothing is lost, and nothing is there twice.
"""

import atexit
import contextvars
import io
import json
import logging
import math
import mimetypes
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, TypeVar, overload

from treadle.client import capture
from treadle.client.journal import Header, Journal, Reader
from treadle.client.shipping import Shipper, Sink
from treadle.client.timing import Profile
from treadle.client.watching import Watch
from treadle.records.diagnosis import Finding
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.open_run import opened
from treadle.records.rules import diagnose

T = TypeVar("T")
log = logging.getLogger("treadle.client")


def current() -> "Run | None":
    """The run that is open here, the innermost of several."""
    return opened.get()


class Run:
    """An open run. Made by `treadle.run`; closed by leaving its `with` block, by `finish`, or at the end of the process.

    Attributes:
        run_id: its id.
        project, experiment: where it belongs.
    """

    def __init__(  # noqa: PLR0913  (each is a thing of its own that a script may say)
        self,
        experiment: str,
        *,
        project: str,
        spool: Path,
        target: str,
        connect: Callable[[], Sink] | None,
        run_id: str | None = None,
        name: str = "",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
        seed: int | None = None,
        system_every: float | None = 10.0,
        ship_every: float = 1.0,
    ):
        self.run_id = run_id or new_id("run")
        self.project, self.experiment = project, experiment
        self._journal = Journal(spool, Header(format=1, project=project, run_id=self.run_id, target=target))
        self._params: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._over = False
        self._watch: Watch | None = None
        self._profile: Profile | None = None
        parent = parent or (current().run_id if current() is not None else None)  # pyright: ignore[reportOptionalMemberAccess]
        git = capture.code(Path.cwd())
        start = {
            "experiment": experiment,
            "name": name,
            "user": capture.user(),
            "started": _now_us(),
            "parent_run": parent,
            "git_revision": git.revision,
            "environment_digest": capture.environment_digest(),
            "tags": {**_told(git), **capture.surroundings(), **({"mlflow.parentRunId": parent} if parent else {})},
        }
        self._journal.append(["s", start])
        if git.diff:
            self.log_text(git.diff, "code/uncommitted.patch")
        self.log_text(capture.environment(), "environment/requirements.txt")
        if seed is not None:
            _seed(seed)
            self.log_params({"seed": seed})
        self.log_params(params or {})
        self.set_tags(tags or {})
        self._vitals: Any = None
        if system_every:
            from treadle.client.vitals import Vitals  # noqa: PLC0415  (psutil, for those who measure)

            self._vitals = Vitals(lambda values: self._points(values, None), every=system_every)
        self._reader = Reader(self._journal.path)
        self._shipper = None if connect is None else Shipper(self._reader, connect, every=ship_every)
        self._token = opened.set(self)
        self._reads: set[str] = set()
        atexit.register(self._at_exit)

    # ── what a script says ───────────────────────────────────────────────────────────────────────────────────────

    def log(self, values: Mapping[str, Any] | None = None, step: int | None = None, /, **more: Any) -> None:
        """Log metrics: `run.log({"loss": 0.3}, 7)` or `run.log(loss=0.3, auc=0.8)`.

        Args:
            values, more: name → number (Python's, NumPy's, a tensor of one element); NaN and infinities are kept.
            step: a count within the run; without one, each name counts for itself from 0.

        Raises:
            TreadleError: a value that is no number.
        """
        self._points({**(values or {}), **more}, step)

    def log_params(self, params: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Log parameters, once each.

        Raises:
            TreadleError: `conflict` for another value of a parameter that is there.
        """
        fresh: dict[str, str] = {}
        for name, value in {**(params or {}), **more}.items():
            text = value if isinstance(value, str) else json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
            known = self._params.get(name)
            if known is not None and known != text:
                raise TreadleError(
                    f"The parameter {name!r} is {known} already and cannot become {text}.",
                    remedy="Log what changes as a metric, or start a run of its own: treadle.run(…)",
                    code="conflict",
                )
            fresh[name] = text
        self._params.update(fresh)
        if fresh:
            self._write(["p", fresh])

    def set_tags(self, tags: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Set tags; one that is there is replaced."""
        named = {name: str(value) for name, value in {**(tags or {}), **more}.items()}
        if named:
            self._write(["t", named])

    def log_artifact(self, file: Path | str, path: str = "") -> None:
        """Keep a copy of a file, or of a folder with all in it, under `path` (a folder; the top where it is empty).

        Raises:
            TreadleError: `not_found`.
        """
        file = Path(file)
        if not file.exists():
            raise TreadleError(f"There is no file {file}.", remedy="Write it first, then log it.", code="not_found")
        files = [p for p in sorted(file.rglob("*")) if p.is_file()] if file.is_dir() else [file]
        for one in files:
            self._file(str(PurePosixPath(path) / one.relative_to(file.parent).as_posix()), one)

    def log_text(self, text: str | bytes, path: str) -> None:
        """Keep a text under a path."""
        self._file(path, text.encode() if isinstance(text, str) else text)

    def log_dict(self, value: Any, path: str) -> None:
        """Keep anything JSON can say, under a path that ends in `.json`."""
        self._file(path, json.dumps(value, indent=2, default=str).encode())

    def log_figure(self, figure: Any, path: str) -> None:
        """Keep a figure of matplotlib (as `.png`, `.svg` or `.pdf`, by the path) or of Plotly (`.html`, or an image).

        Raises:
            TreadleError: anything else.
        """
        kind = PurePosixPath(path).suffix.lstrip(".") or "png"
        buffer = io.BytesIO()
        if hasattr(figure, "savefig"):
            figure.savefig(buffer, format=kind, bbox_inches="tight")
        elif hasattr(figure, "to_html") and kind == "html":
            buffer.write(figure.to_html(include_plotlyjs=True).encode())
        elif hasattr(figure, "to_image"):
            buffer.write(figure.to_image(format=kind))
        else:
            raise TreadleError(
                f"{type(figure).__name__} is no figure of matplotlib or Plotly.", remedy="Save it yourself and use run.log_artifact(file)."
            )
        self._file(path, buffer.getvalue())

    def log_image(self, image: Any, path: str) -> None:
        """Keep a picture of PIL, or an array of height x width (x 3 or 4) with values of 0 to 255, or 0.0 to 1.0.

        Raises:
            TreadleError: `missing_extra` without Pillow; anything else than a picture.
        """
        if not hasattr(image, "save"):
            try:
                from PIL import Image  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise TreadleError(
                    "An array becomes a picture by Pillow, which is not installed.", remedy="pip install pillow", code="missing_extra"
                ) from error
            import numpy as np  # noqa: PLC0415  (a script that logs no picture does not wait for it)

            array = np.asarray(image)
            if array.ndim not in (2, 3):
                raise TreadleError(f"An array of shape {array.shape} is no picture.", remedy="Give height x width, or height x width x 3.")
            scale = 255 if np.issubdtype(array.dtype, np.floating) else 1
            image = Image.fromarray(np.clip(array * scale, 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, format=(PurePosixPath(path).suffix.lstrip(".") or "png").upper().replace("JPG", "JPEG"))
        self._file(path, buffer.getvalue())

    def log_table(self, table: Any, path: str) -> None:
        """Keep a table: a frame of Polars or pandas, columns by name, or a list of rows; as `.parquet`, `.csv` or `.json` by the path.

        Raises:
            TreadleError: something that is no table, or another ending.
        """
        import polars as pl  # noqa: PLC0415  (a script that logs no table does not wait for it)

        if not isinstance(table, pl.DataFrame):
            try:
                columns = {str(name): table[name].tolist() for name in table.columns} if hasattr(table, "iloc") else table
                table = pl.DataFrame(columns, strict=False, infer_schema_length=None)
            except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
                raise TreadleError(
                    f"{type(table).__name__} is no table: {error}.", remedy="Give a frame, a dict of columns or a list of dicts."
                ) from error
        buffer = io.BytesIO()
        writers = {".parquet": table.write_parquet, ".csv": table.write_csv, ".json": table.write_json}
        writer = writers.get(PurePosixPath(path).suffix)
        if writer is None:
            raise TreadleError(f"{path!r} has no ending of a table.", remedy=f"Let it end in {', '.join(writers)}.")
        writer(buffer)
        self._file(path, buffer.getvalue())

    def use(self, name: str, *, digest: str, source: str = "", source_type: str = "", context: str = "", schema: str | None = None) -> None:
        """Say that the run read data: its name, and what tells this content from other (a version, a digest)."""
        told = {"name": name, "digest": digest, "source": source, "source_type": source_type, "context": context, "schema": schema}
        self._write(["i", told])

    # ── what happens inside ──────────────────────────────────────────────────────────────────────────────────────────

    def watch(
        self,
        name: str,
        array: Any,
        step: int | None = None,
        *,
        kind: str | None = None,
        every: int | None = None,
        bounds: tuple[float, float] | None = None,
        saturated: float = 0.99,
    ) -> bool:
        """Record what a tensor looks like, if it is its turn; whether it was.

        Mean, standard deviation, least, greatest, norm, shares of zeros, NaN, saturated values and dead units go to the metrics
        `watch/NAME/…`, with quantiles and a histogram to the table `debug/tensors.parquet`.

        Args:
            name: its layer and what it is, `dense1/gradient`. Watch layers in the order from input to output.
            array: of NumPy, PyTorch or what NumPy can read; units are the last axis, rows the first.
            step: of the training; without one each name counts its calls.
            kind: weight, gradient or activation, where the name's last part does not say so.
            every: steps between two looks (10); after 500 looks it doubles.
            bounds: the ends of a bounded activation, (0, 1) of a sigmoid.
            saturated: |value| beyond which an activation in [-1, 1] is saturated; with bounds, the same of their half range.

        Raises:
            TreadleError: no name, or no numbers.
        """
        if self._watch is None:
            self._watch = Watch(self._points, self.log_table)
        return self._watch.see(name, array, step, kind=kind, every=every, bounds=bounds, saturated=saturated)

    @overload
    def timed(self, name: str) -> AbstractContextManager[None]: ...
    @overload
    def timed(self, name: str, items: Iterable[T]) -> Iterator[T]: ...
    def timed(self, name: str, items: Iterable[T] | None = None) -> AbstractContextManager[None] | Iterator[T]:
        """Measure a section of the script's time: `with run.timed("step"): …`, or the waiting for each of some items:
        `for batch in run.timed("load batch", loader): …`. Sections nest; totals go to the metrics `profile/PATH/seconds` and the
        file `debug/profile.json`."""
        if self._profile is None:
            self._profile = Profile(lambda values: self._points(values, None), self.log_dict)
        return self._profile.section(name) if items is None else self._profile.each(name, items)

    def diagnose(self) -> list[Finding]:
        """What the rules find in what has been logged until now (`treadle.records.rules`), worst first."""
        histories: dict[str, list[tuple[int, float]]] = {}
        for entry in self._reader.again():
            if entry[0] == "m":
                for name, value in entry[3].items():
                    histories.setdefault(name, []).append((entry[2], float(value)))
        return diagnose(histories)

    def reads(self, project: str, dataset: str, number: int, digest: str) -> None:
        """A version of a dataset of Treadle's own was read while the run is open; noted once."""
        if not self._over and digest not in self._reads:
            self._reads.add(digest)
            self.use(dataset, digest=digest, source=f"{project}/{dataset}@{number}", source_type="treadle")

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, state: str = "finished", error: str | None = None, *, timeout: float = 60.0) -> bool:
        """Close the run; whether all of it has arrived within `timeout` seconds. What has not stays for `treadle sync`."""
        if self._over:
            return True
        if self._vitals is not None:
            self._vitals.stop()
        for kept in (self._watch, self._profile):
            try:
                if kept is not None:
                    kept.flush()
            except TreadleError as failed:  # the run is closed all the same
                log.warning("run %s: %s", self.run_id, failed)
        self._write(["u", {"state": state, "ended": _now_us(), "error": error}])
        self._over = True
        self._journal.close()
        atexit.unregister(self._at_exit)
        if opened.get() is self:
            opened.set(None) if self._token.old_value is contextvars.Token.MISSING else opened.set(self._token.old_value)
        arrived = self._shipper is not None and self._shipper.finish(timeout)
        if arrived:
            self._reader.remove()
        elif self._shipper is not None:
            log.warning("run %s has not arrived as a whole; it is kept in %s: treadle sync", self.run_id, self._reader.path)
        if self._reader.refusals is not None:
            log.warning("parts of run %s were refused; they and the reasons are in %s", self.run_id, self._reader.refusals)
        return arrived

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        elif issubclass(kind, KeyboardInterrupt):
            self.finish("cancelled", "interrupted")
        else:
            self.finish("failed", f"{kind.__name__}: {value}")

    def _at_exit(self) -> None:
        failed = getattr(sys, "last_value", None)
        if failed is None:
            self.finish()
        else:
            self.finish("failed", f"{type(failed).__name__}: {failed}")

    # ── into the journal ─────────────────────────────────────────────────────────────────────────────────────────

    def _points(self, values: Mapping[str, Any], step: int | None) -> None:
        time_us = _now_us()
        if step is not None:
            self._write(["m", time_us, int(step), {name: _number(name, value) for name, value in values.items()}])
            return
        for at, names in _by_count(values, self._steps).items():
            self._write(["m", time_us, at, {name: _number(name, values[name]) for name in names}])

    def _file(self, path: str, content: bytes | Path) -> None:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
            raise TreadleError(f"{path!r} is no path of a file in a run.", remedy="Give a relative path, such as 'plots/roc.png'.")
        media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        self._write(["f", str(PurePosixPath(path)), self._journal.keep_file(content), media_type])

    def _write(self, entry: list[Any]) -> None:
        if self._over:
            raise TreadleError(
                f"Run {self.run_id} has ended; nothing more is logged to it.", remedy="Log inside its with block.", code="conflict"
            )
        self._journal.append(entry)


def _by_count(values: Iterable[str], counts: dict[str, int]) -> dict[int, list[str]]:
    """Each name's own next step; names that have the same stand together."""
    found: dict[int, list[str]] = {}
    for name in values:
        step = counts.get(name, 0)
        counts[name] = step + 1
        found.setdefault(step, []).append(name)
    return found


def _number(name: str, value: Any) -> float | str:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TreadleError(
            f"The metric {name!r} is {type(value).__name__} {str(value)[:80]!r}, and no number.", remedy="Log text as a tag or a parameter."
        ) from error
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _told(git: capture.Code) -> dict[str, str]:
    if git.revision is None:
        return {}
    return {"treadle.git.branch": git.branch, "treadle.git.repository": git.root, "treadle.git.dirty": str(git.dirty).lower()}


def _seed(seed: int) -> None:
    """The same random numbers again: Python's, and those of NumPy and PyTorch where they are loaded."""
    random.seed(seed)
    if (numpy := capture.loaded("numpy")) is not None:
        numpy.random.seed(seed % 2**32)
    if (torch := capture.loaded("torch")) is not None:
        torch.manual_seed(seed)


def _now_us() -> int:
    return time.time_ns() // 1000
