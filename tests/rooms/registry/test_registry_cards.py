"""Model cards: what the record knows stands in them, what nobody wrote says so, and nothing in them runs."""

import html.parser

import msgspec
import pytest
from registry_house import NOW, House
from sqlalchemy import insert

from treadle.operations import registry as ops
from treadle.records.errors import TreadleError
from treadle.records.models import CARD_SECTIONS, InputColumn, Signature
from treadle.registry import service as registry
from treadle.store import tables as t

P = "flights"
EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(2)> [a](javascript:alert(3)) | `x` \u202e'


@pytest.fixture
def house(database, tmp_path):
    made = House(database, tmp_path / "blobs")
    made.apply("prod")
    slices = [
        {"column": "carrier", "value": "AA", "rows": 900, "metrics": {"brier": 0.11}},
        {"column": "carrier", "value": "UA|x", "rows": 100, "metrics": {"brier": 0.19}},
        {"column": "carrier", "value": "HA", "rows": 7, "metrics": {"brier": 0.01}},
    ]
    test = {"rows": 1000, "from": "2013-02-01", "until": "2013-02-15", "metrics": {"brier": 0.12}, "slices": slices}
    card = {"params": {"num_leaves": 31}, "label": "late", "test": test, "limits": ["no cargo", "no night flights"]}
    inputs = (InputColumn(name="carrier", dtype="string", categories=("AA", "UA"), origin="request"),)
    digest = made.bundle(card=card, signature=Signature(inputs=inputs))
    row = {"dataset": "flights", "number": 3, "digest": "data1", "delta_version": 3, "rows": 4711, "added_rows": 1, "columns": []}
    row |= {"project": P, "source": "file", "tags": [], "event_time": NOW, "recorded_time": NOW}
    made.database.write(lambda tx: tx.execute(insert(t.dataset_versions), row))
    made(ops.RegisterVersion(project=P, model="delay", bundle_digest=digest, run_id="run_1", metrics={"brier": 0.12}, description="d"))
    return made


def card(house, format="json", number=1):
    return house(ops.GetCard(project=P, model="delay", number=number, format=format))


def section(made, key):
    return next(s for s in made.sections if s.key == key)


def test_what_the_record_knows(house):
    house.decide(house.ask(1).approval_id)
    house.tx(registry.move_alias, alias="champion", number=1, environment="prod")
    house(ops.AddComment(project=P, comment_id="c", subject="model/delay/1", text="looked at JFK"))
    made = card(house)
    assert (made.model, made.number, made.state, made.text) == ("delay", 1, "approved", "")
    facts = {f.name: f.text for f in section(made, "overview").fields}
    assert (facts["registered by"], facts["aliases"], facts["about this version"]) == ("ana", "champion.prod", "d")
    assert section(made, "training").tables[0].rows == [["num_leaves", "31"]]
    assert section(made, "data").tables[0].rows[0][:5] == ["flights", "version 3", "training", "4711", "2013-03-01"]
    assert section(made, "features").tables[0].rows == [["carrier", "string", "request", "", "2"]]
    assert section(made, "metrics").tables[0].rows == [["brier", "0.12"]]
    assert [row[:3] for row in section(made, "slices").tables[0].rows] == [
        ["carrier", "AA", "900"],
        ["carrier", "UA|x", "100"],
        ["carrier", "HA", "7"],
    ]
    assert section(made, "fairness").fields[0].text == "groups of fewer than 100 rows: carrier=HA"  # seven rows say nothing about a gap
    assert section(made, "trials").missing == "It was not tried beside a champion."
    gap = section(made, "fairness").tables[0].rows[0]
    assert (gap[0], gap[-1]) == ("carrier", "0.08")
    assert any("packages" in row for row in section(made, "lineage").tables[0].rows)
    people = section(made, "approvals")
    assert people.tables[0].rows[0][:3] == ["prod", "granted", "ana"]
    assert people.tables[1].rows[0][-1] == "looked at JFK"
    assert "follows the alias" in section(made, "releases").tables[0].rows[0][-1]


def test_what_people_write(house):
    empty = section(card(house), "intended_use")
    assert (empty.text, empty.missing[:30]) == ("", "Nobody has written this yet. W")
    assert 'treadle models card delay@1 --write intended_use="…"' in empty.missing
    assert section(card(house), "limits").text == "no cargo\nno night flights"  # given with the candidate
    house(ops.UpdateCard(project=P, model="delay", sections={"intended_use": "of the model", "limits": "of the model"}))
    house(ops.UpdateCard(project=P, model="delay", number=1, sections={"intended_use": "of the version"}))
    made = card(house)
    assert (section(made, "intended_use").text, section(made, "intended_use").missing) == ("of the version", "")
    assert section(made, "limits").text == "of the model"
    house(ops.UpdateCard(project=P, model="delay", number=1, sections={"intended_use": ""}))
    assert section(card(house), "intended_use").text == "of the model"
    for sections in ({"nope": "x"}, {}, {"limits": "x" * 50_001}, {"limits": "a\x00"}):
        with pytest.raises(TreadleError) as caught:
            house(ops.UpdateCard(project=P, model="delay", sections=sections))
        assert caught.value.code == "bad_request"
    with pytest.raises(TreadleError, match="no format"):
        card(house, "pdf")
    assert set(CARD_SECTIONS) <= {s.key for s in made.sections}


class Read(html.parser.HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def test_nothing_in_it_runs(house):
    house(ops.UpdateCard(project=P, model="delay", sections=dict.fromkeys(CARD_SECTIONS, EVIL)))
    house(ops.UpdateVersion(project=P, model="delay", number=1, description=EVIL))
    house(ops.UpdateModel(project=P, model="delay", description=EVIL))
    house(ops.SetVersionTags(project=P, model="delay", number=1, tags={EVIL: EVIL}))
    house(ops.AddComment(project=P, comment_id="c", subject="model/delay/1", text=EVIL))
    page = Read()
    text = card(house, "html").text
    page.feed(text)
    assert set(page.tags) & {"script", "img", "a", "iframe", "link", "object", "form"} == set()
    assert not [a for a in page.attributes if a[0].startswith("on") or a[0] in ("src", "href")]
    assert "default-src 'none'" in text
    assert "<script>alert" not in text
    written = card(house, "md").text
    assert "<script>" not in written.replace("\\<script\\>", "")
    assert "[a](" not in written
    assert "\\| \\`x\\`" in written
    rows = [line for line in written.splitlines() if line.startswith("| carrier | UA")]
    assert rows
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows[:1])


def test_of_an_unsealed_version_and_one_without_a_bundle(house):
    house(ops.CreateVersion(project=P, model="delay", run_id="gone", source="runs:/gone/model", metrics={"auc": 0.5}))
    made = card(house, "md", number=2)
    assert "not sealed" in made.text
    assert "auc" in made.text
    house.blobs.delete(house.version(1).bundle_digest)
    assert "brier" in card(house, "html").text
    assert msgspec.json.decode(msgspec.json.encode(card(house)), type=type(made)).model == "delay"


@pytest.mark.parametrize("harm", [b"other bytes", None], ids=["damaged", "gone"])
def test_a_bundle_that_cannot_be_read_is_told_of_and_nothing_is_claimed_from_it(house, harm):
    whole = card(house)
    assert whole.unread == ""
    house(ops.RegisterVersion(project=P, model="delay", bundle_digest=house.bundle("run_2"), run_id="run_2", metrics={"brier": 0.11}))
    digest = house.version(1).bundle_digest
    place = house.blobs.place(digest)
    place.unlink()
    if harm:
        place.write_bytes(harm)
    made = card(house)
    said = "no longer matches its digest" if harm else "There is no blob"
    assert made.unread.startswith(f"Its sealed bundle {digest[:12]} cannot be read now. ")
    assert said in made.unread
    facts = {f.name: f.text for f in section(made, "overview").fields}
    assert facts["bundle"] == digest, "it is sealed, whatever can be read of it now"
    for key in ("intended_use", "limits", "slices", "features", "fairness"):
        assert section(made, key).missing == "Not known now: the bundle that may say it cannot be read."
    assert section(made, "metrics").tables == section(whole, "metrics").tables, "the record has these by itself"
    assert section(made, "gates").missing == section(whole, "gates").missing
    for format in ("md", "html"):
        text = card(house, format).text
        assert "cannot be read now" in text
        assert "What only its files say is missing from this card" in text
        assert "Nobody has written this yet" not in text
    beside = house(ops.CompareVersions(project=P, model="delay", left=1, right=2))
    assert [told.partition(":")[0] for told in beside.unread] == ["delay@1"]
    assert {i.section for i in beside.items} == {"facts", "metrics"}
    assert not {"flavor", "python"} & {i.name for i in beside.items}
    assert house(ops.CompareVersions(project=P, model="delay", left=2, right=2)).unread == []
