"""The model card: made from the record, completed by hand where a machine cannot know.

`build` turns evidence into sections; `card_text` renders them. What nobody has written says so, and how to write it. Text of people
stands for a version, else for its model, else as it was given with the candidate.
"""

import datetime as dt
from typing import Any

from msgspec.structs import replace

from treadle.ledger import lineage
from treadle.ledger.dispatch import Unchanged
from treadle.operations.registry import GetCard, UpdateCard
from treadle.operations.table import implements
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import Clock
from treadle.records.definitions import definition_digest
from treadle.records.errors import TreadleError
from treadle.records.models import CARD_SECTIONS, IMAGE_TAG, Card, CardField, CardSection, CardTable, RegisteredModel
from treadle.registry import card_text, policy
from treadle.registry.evidence import Evidence, gather, restricted
from treadle.registry.moves import model_node, model_of, version_of
from treadle.registry.uses import uses
from treadle.store.db import Connection
from treadle.store.queries import models as queries
from treadle.store.queries import monitoring as monitoring_queries
from treadle.store.queries import registry as version_queries
from treadle.store.queries import releases as release_queries
from treadle.tracking.limits import check_text

FORMATS = ("json", "md", "html")
_LONGEST = 50_000
_NUMBER = "{:.6g}"
#: Sections that a bundle may fill (what people gave with the candidate, too), and those that the files of an unsealed version may.
_OF_BUNDLE, _OF_FILES = (*CARD_SECTIONS, "training", "features", "metrics", "slices"), ("features",)
#: Rows that a group needs for its metrics to be compared with another's.
_FEW = 100


class CardVerbs:
    """Model cards. A part of `Registry`."""

    _blobs: BlobStore
    _clock: Clock

    @implements(GetCard)
    def get_card(self, tx: Connection, request: GetCard, call: Call) -> Card:
        """The card of a version, rendered where that is asked for."""
        if request.format not in FORMATS:
            raise TreadleError(f"{request.format[:40]!r} is no format of a card.", remedy=f"Use one of {', '.join(FORMATS)}.")
        version = version_of(tx, request.project, request.model, request.number)
        model = model_of(tx, request.project, request.model)
        card = build(tx, gather(tx, self._blobs, version), model, now=call.event_time)
        return card_text.rendered(card, request.format)

    @implements(UpdateCard)
    def update_card(self, tx: Connection, request: UpdateCard, call: Call) -> RegisteredModel | Unchanged:
        """Write or remove sections.

        Raises:
            TreadleError: `bad_request` for a section that people do not write.
        """
        unknown = [key for key in request.sections if key not in CARD_SECTIONS]
        if unknown or not request.sections:
            raise TreadleError(
                f"A card has no section {unknown[0][:80]!r} that people write." if unknown else "No section is given.",
                remedy=f"Write some of {', '.join(CARD_SECTIONS)}.",
            )
        for key, text in request.sections.items():
            check_text(text, f"section {key}", _LONGEST)
        known = model_of(tx, request.project, request.model)
        number = version_of(tx, request.project, request.model, request.number).number if request.number else 0
        before = queries.version_card(tx, request.project, request.model, number) if number else known.card
        after = {k: v for k, v in {**before, **request.sections}.items() if v.strip()}
        if after == before:
            return Unchanged(known)
        values = {"card": after, "updated": self._clock.now()}
        if number:
            version_queries.update_version(tx, request.project, request.model, number, values)
        else:
            queries.update_model(tx, request.project, request.model, values)
        return model_of(tx, request.project, request.model)


def build(tx: Connection, evidence: Evidence, model: RegisteredModel, *, now: dt.datetime) -> Card:
    """The card of a version as the record stands."""
    version, sealed = evidence.version, (evidence.bundle.card if evidence.bundle else {})
    written = policy.written_sections(tx, version, sealed)
    by_hand = {key: _written(key, title, written.get(key, ""), version) for key, (title, _) in CARD_SECTIONS.items()}
    slices = [s for s in (sealed.get("test") or {}).get("slices") or [] if isinstance(s, dict)]
    sections = [
        _overview(evidence, model),
        by_hand["intended_use"],
        by_hand["limits"],
        _training(evidence),
        _with(by_hand["data"], *_data(evidence)),
        _features(evidence),
        _metrics(evidence),
        _by_slice(slices),
        _with(by_hand["fairness"], *_gaps(slices)),
        _gates(evidence),
        by_hand["risks"],
        _lineage(tx, evidence),
        _people(tx, evidence),
        _trials(tx, evidence),
        _serving(tx, evidence),
        _monitoring(tx, evidence),
        by_hand["owners"],
        _with(by_hand["maintenance"], _due(evidence, now), []),
    ]
    return Card(
        project=version.project,
        model=version.model,
        number=version.number,
        state=str(version.state),
        made=now,
        sections=[_unread(section, version.sealed) for section in sections] if evidence.unread else sections,
        unread=evidence.unread,
    )


def _unread(section: CardSection, sealed: bool) -> CardSection:
    """A section whose facts may stand in files that cannot be read: it does not say that there are none."""
    if section.key not in (_OF_BUNDLE if sealed else _OF_FILES) or not section.missing:
        return section
    return replace(section, missing=f"Not known now: the {'bundle' if sealed else 'file'} that may say it cannot be read.")


def _written(key: str, title: str, text: str, version: Any) -> CardSection:
    how = CARD_SECTIONS[key][1]
    missing = f'Nobody has written this yet. {how} Write it with: treadle models card {version.model}@{version.number} --write {key}="…"'
    return CardSection(key=key, title=title, text=text, missing="" if text else missing)


def _with(section: CardSection, fields: list[CardField], tables: list[CardTable]) -> CardSection:
    return CardSection(key=section.key, title=section.title, fields=fields, tables=tables, text=section.text, missing=section.missing)


def _fields(**known: Any) -> list[CardField]:
    return [CardField(name=k.replace("_", " "), text=_shown(v)) for k, v in known.items() if v not in (None, "", [], {}, ())]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _NUMBER.format(value)
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if isinstance(value, dict):
        return ", ".join(f"{k}={_shown(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return str(value)


def _table(columns: list[str], rows: list[list[Any]]) -> list[CardTable]:
    return [CardTable(columns=columns, rows=[["" if v is None else _shown(v) for v in row] for row in rows])] if rows else []


def _overview(evidence: Evidence, model: RegisteredModel) -> CardSection:
    v = evidence.version
    fields = _fields(
        model=v.model,
        version=v.number,
        state=str(v.state),
        stage="" if v.stage == "None" else v.stage,
        about_the_model=model.description,
        about_this_version=v.description,
        aliases=v.aliases,
        kind=evidence.flavor,
        output=evidence.bundle.signature.output if evidence.bundle else "",
        registered=v.event_time,
        registered_by=v.actor,
        version_before=v.previous,
        bundle=v.bundle_digest or "not sealed: it can be loaded and compared, and not released",
        files=v.source,
        container_image=v.tags.get(IMAGE_TAG),
        tags={name: value for name, value in v.tags.items() if name != IMAGE_TAG},
        pinned=v.pinned or None,
        downloads=v.downloads or None,
    )
    return CardSection(key="overview", title="What it is", fields=fields)


def _training(evidence: Evidence) -> CardSection:
    v, row = evidence.version, (evidence.run["run"] if evidence.run else {})
    card = evidence.bundle.card if evidence.bundle else {}
    fields = _fields(
        run=v.run_id,
        run_by=row.get("user_name") or row.get("actor"),
        started=row.get("started"),
        ended=row.get("ended"),
        logged_model=v.model_id,
        label=card.get("label"),
        rows=card.get("rows"),
        newest_row=card.get("trained_until"),
        python=evidence.bundle.python if evidence.bundle else "",
        packages=f"{len(evidence.environment)} pinned" if evidence.environment else "",
    )
    fields += [CardField(name=k, text=_shown(val)) for k, val in evidence.code.items()]
    params = _table(["parameter", "value"], [[k, val] for k, val in sorted(evidence.params.items())])
    return CardSection(key="training", title="Training", fields=fields, tables=params, missing=_if_none(fields, "no run is recorded"))


def _data(evidence: Evidence) -> tuple[list[CardField], list[CardTable]]:
    test = (evidence.bundle.card if evidence.bundle else {}).get("test") or {}
    span = f"{test.get('from') or '?'} to {test.get('until') or '?'}" if test.get("from") or test.get("until") else ""
    rows = [
        [d.name, d.version, d.context, d.rows, d.until, d.licence, d.owner, d.provenance, d.restrictions, d.digest[:16]]
        for d in evidence.data
    ]
    columns = ["dataset", "version", "used for", "rows", "until", "licence", "owner", "comes from", "restrictions", "digest"]
    tables = _table(columns, rows)
    sets = {d.name: d.version for d in evidence.data}
    labels = [
        [x.name, x.description, x.source, x.confidence, sets.get(x.dataset), x.owner, restricted(x), definition_digest(x)[:16]]
        for x in evidence.labels
    ]
    tables += _table(["label", "means", "source", "confidence", "label set", "owner", "restrictions", "definition"], labels)
    return _fields(test_rows=test.get("rows"), test_time=span), tables


def _features(evidence: Evidence) -> CardSection:
    if evidence.bundle:
        inputs = evidence.bundle.signature.inputs
        rows = [[c.name, c.dtype, c.origin, c.view, len(c.categories) if c.categories is not None else None] for c in inputs]
        tables = _table(["input", "type", "from", "feature view", "categories"], rows)
        sealed = {v.name: definition_digest(v)[:16] for v in evidence.bundle.views}
        views = [[v.name, v.entity, v.source, v.description, v.owner, restricted(v), sealed[v.name]] for v in evidence.views]
        tables += _table(["feature view", "entity", "made from", "means", "owner", "restrictions", "definition"], views)
    else:
        tables = _table(["name", "type"], [[k, v] for k, v in evidence.schema.items()])
    return CardSection(key="features", title="Inputs", tables=tables, missing=_if_none(tables, "the model has no recorded signature"))


def _metrics(evidence: Evidence) -> CardSection:
    test = (evidence.bundle.card if evidence.bundle else {}).get("test") or {}
    champion = test.get("champion") or {}
    theirs = champion.get("metrics") or {}
    columns = ["metric", "value", *([f"version {champion.get('version')} on the same rows"] if theirs else [])]
    rows = [[k, v, *([theirs.get(k)] if theirs else [])] for k, v in sorted(evidence.metrics.items())]
    judged = (evidence.bundle.card if evidence.bundle else {}).get("judged") or {}
    told = (
        f"the same fit of {judged.get('rows')} rows up to {judged.get('until') or '?'}. When it had passed the gates the model "
        "was fitted again on all rows, the test rows among them; that one is sealed here."
    )
    fields = _fields(measured_on=told) if judged else []
    missing = _if_none(rows, "nothing was measured")
    return CardSection(key="metrics", title="Metrics", fields=fields, tables=_table(columns, rows), missing=missing)


def _by_slice(slices: list[dict[str, Any]]) -> CardSection:
    names = sorted({name for s in slices for name in s.get("metrics", {})})
    rows = [[s.get("column"), s.get("value"), s.get("rows"), *(s.get("metrics", {}).get(n) for n in names)] for s in slices]
    tables = _table(["column", "value", "rows", *names], rows)
    missing = _if_none(rows, "no slices were measured; name them: tr.evaluate(…, slices=[…])")
    return CardSection(key="slices", title="Metrics by slice", tables=tables, missing=missing)


def _gaps(slices: list[dict[str, Any]]) -> tuple[list[CardField], list[CardTable]]:
    """Per column and metric, the best and worst slice and the gap between; slices of few rows say nothing about a gap."""
    rows: list[list[Any]] = []
    small = [f"{s.get('column')}={s.get('value')}" for s in slices if (s.get("rows") or 0) < _FEW]
    for column in dict.fromkeys(s.get("column") for s in slices):
        own = [s for s in slices if s.get("column") == column and (s.get("rows") or 0) >= _FEW]
        for name in sorted({n for s in own for n in s.get("metrics", {})}):
            known = sorted((s["metrics"][name], str(s.get("value"))) for s in own if isinstance(s["metrics"].get(name), int | float))
            if len(known) > 1:
                (low, at_low), (high, at_high) = known[0], known[-1]
                rows.append([column, name, low, at_low, high, at_high, high - low])
    left = _fields(left_out=f"groups of fewer than {_FEW} rows: {', '.join(small)}") if small else []
    return left, _table(["column", "metric", "lowest", "of", "highest", "of", "gap"], rows)


def _gates(evidence: Evidence) -> CardSection:
    rows = [[g.gate, "passed" if g.passed else "failed", g.text] for g in evidence.version.gates]
    return CardSection(key="gates", title="Gates", tables=_table(["gate", "result", "in words"], rows), missing=_if_none(rows, "no gates"))


def _lineage(tx: Connection, evidence: Evidence) -> CardSection:
    v = evidence.version
    graph = lineage.around(tx, v.project, model_node(v.project, v.model, v.number), direction="up", depth=3)
    named = {n.digest: f"{n.kind} {n.name}{f' {n.number}' if n.number is not None else ''}" for n in graph.versions}
    rows = [[named.get(e.child, e.child[:24]), e.role.replace("_", " "), named.get(e.parent, e.parent[:24])] for e in graph.edges[:60]]
    return CardSection(
        key="lineage", title="Lineage", tables=_table(["what", "how", "from"], rows), missing=_if_none(rows, "none recorded")
    )


def _people(tx: Connection, evidence: Evidence) -> CardSection:
    v = evidence.version
    subject = f"model/{v.model}/{v.number}"
    asked = queries.approvals_of(tx, v.project, subject)
    rows = [[a.environment, a.state, a.asked_by, a.asked_time, a.decided_by, a.decided_time, a.comment] for a in asked]
    tables = _table(["environment", "state", "asked by", "asked", "decided by", "decided", "comment"], rows)
    talked = [
        c for s in [subject, *(f"approval/{a.approval_id}" for a in asked)] for c in queries.list_comments(tx, v.project, s, limit=100)
    ]
    tables += _table(["who", "when", "said"], [[c.actor, c.event_time, c.text] for c in talked])
    return CardSection(key="approvals", title="Approvals and people", tables=tables, missing=_if_none(tables, "nobody was asked yet"))


def _trials(tx: Connection, evidence: Evidence) -> CardSection:
    """What its canaries found: outcomes of the requests that it and the champion of the time both scored."""
    v = evidence.version
    mine = [r for r in queries.releases_of(tx, v.project, v.model) if r.to_version == v.number and r.from_version is not None]
    found = [release_queries.find_release(tx, v.project, r.environment, r.release_id) for r in mine]
    rows = [
        [r.environment, r.from_version, r.strategy.share, r.started, r.ended, str(r.state), r.facts.get("rows"), r.reason]
        for r in found
        if r is not None and r.strategy is not None
    ]
    columns = ["environment", "against version", "share", "from", "until", "verdict", "paired outcomes", "in words"]
    missing = _if_none(rows, "it was not tried beside a champion")
    return CardSection(key="trials", title="Tried in production", tables=_table(columns, rows), missing=missing)


def _serving(tx: Connection, evidence: Evidence) -> CardSection:
    v = evidence.version
    rows = [[u.kind, u.environment, u.name, u.text] for u in uses(tx, v.project, v.model, v.number)]
    tables = _table(["what", "environment", "name", "in words"], rows)
    return CardSection(key="releases", title="Releases and use", tables=tables, missing=_if_none(rows, "nothing refers to it"))


def _monitoring(tx: Connection, evidence: Evidence) -> CardSection:
    v = evidence.version
    rows: list[list[Any]] = []
    for environment, endpoint in {(u.environment, u.name) for u in uses(tx, v.project, v.model, v.number) if u.kind == "snapshot"}:
        for window in monitoring_queries.list_windows(tx, v.project, environment, endpoint, None, None, 1):
            shown = {k: m for k, m in window.metrics.items() if not k.startswith("latency")}
            rows.append([environment, endpoint, window.end, window.predictions, window.outcomes, shown])
    tables = _table(["environment", "endpoint", "window until", "predictions", "outcomes", "metrics"], sorted(rows, key=str))
    return CardSection(
        key="monitoring", title="In production", tables=tables, missing=_if_none(rows, "it does not serve, or nothing is known yet")
    )


def _due(evidence: Evidence, now: dt.datetime) -> list[CardField]:
    due = evidence.version.review_due
    if due is None:
        return []
    return _fields(review=f"{'was due' if due <= now else 'due'} {_shown(due)}")


def _if_none(found: Any, why: str) -> str:
    return "" if found else f"{why[0].upper()}{why[1:]}."
