"""Where things are when nobody says: the home, the journals of runs, the project whose folder one stands in."""

import os
import tomllib
from pathlib import Path

from treadle.records.errors import TreadleError

#: Where a home is: in the project, or where TREADLE_HOME points.
DEFAULT_HOME = ".treadle"
DEFAULT_PROJECT = "default"


def home_path(root: Path | str | None = None) -> Path:
    """The folder of the home: the argument, else TREADLE_HOME, else `.treadle` here."""
    return Path(root or os.environ.get("TREADLE_HOME") or DEFAULT_HOME).absolute()


def spool_path(root: Path, url: str | None) -> Path:
    """Where journals are: TREADLE_SPOOL, or in the home; for a server where there is no home here, in the user's cache."""
    told = os.environ.get("TREADLE_SPOOL")
    if told:
        return Path(told).absolute()
    if url and not root.exists():
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "treadle" / "spool"
    return root / "spool"


def project_here() -> str:
    """TREADLE_PROJECT, the project whose folder this is, or `default`."""
    told = os.environ.get("TREADLE_PROJECT")
    if told:
        return told
    settings = Path("treadle.toml")
    if settings.exists():
        try:
            name = tomllib.loads(settings.read_text()).get("project")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TreadleError(f"treadle.toml cannot be read: {error}.", remedy="Mend it, or name the project: TREADLE_PROJECT") from error
        if isinstance(name, str):
            return name
    return DEFAULT_PROJECT
