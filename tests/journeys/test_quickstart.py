"""The quickstart works by its text alone: its console blocks are run as they stand, in one shell, in an empty folder.

Comments in the page steer the run and are not shown: `<!-- until: PATTERN -->` repeats the next block until its output matches;
`<!-- heavy from here -->` ends the shorter of the two tests.
"""

import datetime as dt
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from treadle.records.layout import Layout

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
_BLOCK = re.compile(r"(?:<!-- until: (?P<until>.+?) -->\n)?```console\n(?P<body>.*?)```", re.S)
_HEAVY = "<!-- heavy from here -->"
_TRIES = 90


def _script(text: str) -> str:
    """The blocks as one bash script that stops at the first failure; each command is printed before it runs."""
    lines = ["set -e"]
    for block in _BLOCK.finditer(text):
        commands = [line.removeprefix("$ ") for line in block["body"].splitlines() if line.startswith("$ ")]
        assert commands, f"a console block without a command: {block['body']!r}"
        for command in commands:
            lines.append(f"cat <<'SAID'\n$ {command}\nSAID")
        if block["until"]:
            lines += [
                f"for TRY in $(seq {_TRIES}); do SEEN=$({'; '.join(commands)} 2>&1) || true",
                f"  echo \"$SEEN\" | grep -q -- '{block['until']}' && break; sleep 0.5; done",
                f'echo "$SEEN"; echo "$SEEN" | grep -q -- \'{block["until"]}\'',
            ]
        else:
            lines += commands
    return "\n".join([*lines, ""])


def _run(text: str, folder: Path, port: int) -> str:
    script = _script(text).replace("treadle up &", f"treadle up --port {port} > up.log 2>&1 &")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TREADLE_HEADS": str(folder / "heads"),
    }
    command = ["bash", "-c", script]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as shell:
        try:
            told = shell.communicate(timeout=280)[0]
        finally:
            _end(shell)
    print(told)
    assert shell.returncode == 0, told[-3000:]
    return told


def _end(shell: subprocess.Popen[str]) -> None:
    """Whatever of the session still runs is told to end."""
    try:
        os.killpg(shell.pid, signal.SIGTERM)
    except ProcessLookupError:
        return


@pytest.fixture
def port() -> int:
    """Of three ports in a row that are free: server and two gateways."""
    for _ in range(100):
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            number = first.getsockname()[1]
        try:
            for offset in range(3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number + offset))
        except OSError:
            continue
        return number
    raise AssertionError("no three free ports in a row")


def test_every_console_line_is_run():
    """No block of the page is skipped by the patterns above."""
    text = PAGE.read_text()
    assert len(_BLOCK.findall(text)) == text.count("```console")
    assert text.count(_HEAVY) == 1
    assert shutil.which("bash")


@pytest.mark.heavy
def test_the_quickstart_to_its_end(tmp_path: Path, port: int):
    told = _run(PAGE.read_text(), tmp_path, port)
    assert "identical" in told
    assert "rolled_back" in told
    log = pl.read_delta(str(Layout(tmp_path / "flights/rehearsal").prediction_table("flights", "prod")))
    replayed = log.filter(pl.col("event_time") >= dt.datetime(2013, 2, 1, tzinfo=dt.UTC))
    assert replayed.height > 2000
    # January is in the windows, though the home's own worker lives years later and has forgotten it.
    assert replayed["ft.origin_lateness.late_24h"].null_count() < 0.05 * replayed.height


def test_the_quickstart_up_to_a_reproduced_training(tmp_path: Path, port: int):
    told = _run(PAGE.read_text().split(_HEAVY)[0], tmp_path, port)
    assert "delay@1" in told
    assert "identical" in told
