"""`treadle models …` on a real home, typed as a person would."""

import datetime as dt
import json
from pathlib import Path

import pytest

from treadle.cli import main
from treadle.operations import registry as ops
from treadle.records.digests import canonical
from treadle.records.models import Bundle, Signature
from treadle.workshop import open_home


@pytest.fixture
def treadle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for name in ("TREADLE_TOKEN", "TREADLE_URL", "TREADLE_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TREADLE_PROJECT", "crm")
    monkeypatch.chdir(tmp_path)
    with open_home(tmp_path / "home") as shop:
        for auc in (0.7, 0.9):
            shop.call(ops.CreateVersion(project="crm", model="churn", source="runs:/r1/model", metrics={"auc": auc}, create=True))

    def type_(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        got = main(["models", *words])
        said = capsys.readouterr()
        assert got == code, f"{words} ended with {got}: {said.out}{said.err}"
        return said.out + said.err

    return type_


def test_a_model_from_end_to_end(treadle, tmp_path):
    assert "churn" in treadle("list", "--filter", "name LIKE 'ch%'")
    assert "churn@2" in treadle("churn")
    assert "churn@2" in treadle()  # no endpoint serves one: all of them
    assert [v["number"] for v in json.loads(treadle("search", "--by", "auc", "--json"))] == [2, 1]
    assert [v["number"] for v in json.loads(treadle("search", "name = 'churn'", "--by", "+auc", "--json"))] == [1, 2]
    assert "+0.2" in treadle("compare", "churn@1", "churn@2")
    assert "kind=tree" in treadle("tag", "churn@2", "kind=tree")
    assert "team=crm" in treadle("tag", "churn", "team=crm")
    assert "who leaves" in treadle("describe", "churn", "who leaves")
    assert "first" in treadle("describe", "churn@1", "first")
    assert "best is churn@2" in treadle("alias", "churn@2", "best")
    said = treadle("show", "churn@2")
    assert "not sealed" in said
    assert "the alias 'best' names it" in said
    assert "who leaves" in treadle("show", "churn")
    assert "names nothing now" in treadle("alias", "churn", "best", "--delete")
    assert "pinned" in treadle("pin", "churn@1")
    assert "churn@1 is pinned" in treadle("delete", "churn@1", "--preview")
    assert "churn@1 is pinned" in treadle("delete", "churn@1", "--yes", code=4)
    treadle("pin", "churn@1", "--off")
    assert "due for review" in treadle("review", "churn@1", "--next", "30d", "--comment", "fine")
    assert "deleted churn@1" in treadle("delete", "churn@1", "--yes")
    assert "churn is leavers now" in treadle("rename", "churn", "leavers")
    assert "Log the model to this server" in treadle("seal", "leavers@2", code=3)
    assert "no sealed bundle" in treadle("ask", "leavers@2", "--env", "prod", code=4)


def test_cards(treadle, tmp_path):
    assert "Nobody has written this yet" in treadle("card", "churn@2").replace("\\", "")
    assert "wrote intended" in treadle("card", "churn@2", "--write", "intended_use=To call <them>.", "--of-model")
    assert "To call \\<them\\>." in treadle("card", "churn@1")
    treadle("card", "churn@1", "--format", "html", "-o", "card.html")
    assert "To call &lt;them&gt;." in (tmp_path / "card.html").read_text()
    assert json.loads(treadle("card", "churn@1", "--json"))["number"] == 1
    assert "no section" in treadle("card", "churn@1", "--write", "nope=x", code=2)
    assert "names no model version" in treadle("card", "churn", code=2)


@pytest.fixture
def sealed(treadle, tmp_path):
    """churn@3 is sealed and passed its gates."""
    made = Bundle(
        project="crm",
        model="churn",
        flavor="lightgbm",
        signature=Signature(inputs=()),
        views=(),
        files=(),
        onnx_equal=0.0,
        environment=(),
        python="3.11.7",
        code_digest="",
        run_id="r3",
        trained_on=(),
        event_time=dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
        format=1,
    )
    with open_home(tmp_path / "home") as shop:
        shop.call(ops.RegisterVersion(project="crm", model="churn", bundle_digest=shop.blobs.put(canonical(made)), run_id="r3"))
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
        about = {"environment": "staging", "subject": "model/churn/3", "question": "May it?"}
        shop.call(ops.RequestApproval(project="crm", approval_id="apr_1", expires=expires, **about))
    return expires


def test_what_was_asked_is_told_until_its_end(treadle, sealed, capsys):
    def type_(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        got = main(list(words))
        said = capsys.readouterr()
        assert got == code, said.out + said.err
        return said.out + said.err

    assert f"{sealed:%Y-%m-%d %H:%M}" in type_("approvals")
    assert "somebody else answers" in treadle("ask", "churn@3", "--env", "prod")
    assert "owner asked already" in treadle("ask", "churn@3", "--env", "staging")
    assert "waits in prod, staging" in type_("approve", "churn@3", code=2)
    assert "wants four eyes" in type_("approve", "churn@3", "--env", "prod", code=4)
    assert "withdrawn" in type_("withdraw", "churn@3", "--env", "staging", "--reason", "too early")
    assert "of churn@3 in staging was withdrawn by owner" in type_("approve", "churn@3", "--env", "staging", code=4)
    assert "No approval of churn@3 waits" in type_("approve", "churn@3", "--env", "dev", code=3)
    shown = treadle("show", "churn@3")
    assert "  prod  waiting, asked by owner" in shown
    assert ": too early" in shown
    assert {a["environment"] for a in json.loads(treadle("show", "churn@3", "--json"))["approvals"]} == {"staging", "prod"}
