"""The documentation as HTML: `make docs`."""

import tomllib
from pathlib import Path

project = "Treadle"
author = "The Treadle authors"
copyright = "The Treadle authors, Apache-2.0"
release = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Treadle"
html_show_sphinx = False
suppress_warnings = ["misc.highlighting_failure"]  # console sessions hold output that no lexer knows
