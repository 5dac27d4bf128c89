"""Plan: what applying a project would change in an environment. Pure."""

from collections.abc import Collection, Mapping

from treadle.operations.workshop import Change, Plan
from treadle.records.definitions import KINDS, Definition, Project, definition_digest
from treadle.records.digests import digest_of

#: (kind, name) of a definition that something live depends on → what that is, in words.
Live = Mapping[tuple[str, str], str]


def plan(old: Project | None, new: Project, environment: str, *, live: Live | None = None) -> Plan:
    """Every definition of either side, with what happens to it.

    A rename is declared by `was`; a definition that is gone is removed, which is refused while something live depends on it.
    """
    changes: list[Change] = []
    for kind, (field, _) in KINDS.items():
        before = {d.name: d for d in getattr(old, field)} if old else {}
        after = {d.name: d for d in getattr(new, field)}
        changes += _kind(kind, before, after, live or {})
    return Plan(project=new.name, environment=environment, base=digest_of(old) if old else "", changes=changes)


def lacking(project: Project, environment: str) -> list[str]:
    """What the environment requires that its datasets, feature views and labels do not say, in words; none where all is said."""
    place = next((e for e in project.environments if e.name == environment), None)
    said = [("dataset", d) for d in project.datasets]
    said += [("feature view", v) for v in project.feature_views]
    said += [("label", x) for x in project.labels]
    found: list[str] = []
    for kind, definition in said:
        absent = [word for word in (place.requires if place else ()) if getattr(definition, word, word) in ("", None)]
        found += [f"{kind} {definition.name} has no {' and no '.join(absent)}"] if absent else []
    return found


def _kind(kind: str, before: Mapping[str, Definition], after: Mapping[str, Definition], live: Live) -> list[Change]:
    changes: list[Change] = []
    renamed: set[str] = set()
    for name, definition in after.items():
        digest = definition_digest(definition)
        was = getattr(definition, "was", None)
        if name in before:
            old = definition_digest(before[name])
            action = "keep" if old == digest else "change"
            detail = "" if action == "keep" else _difference(before[name], definition)
            changes.append(Change(action=action, kind=kind, name=name, before=old, after=digest, detail=detail))
        elif was and was in before:
            renamed.add(was)
            changes.append(
                Change(action="rename", kind=kind, name=name, before=definition_digest(before[was]), after=digest, detail=f"was {was}")
            )
        else:
            changes.append(Change(action="add", kind=kind, name=name, after=digest))
    for name in _gone(before, after, renamed):
        changes.append(
            Change(
                action="remove",
                kind=kind,
                name=name,
                before=definition_digest(before[name]),
                refused=live.get((kind, name), ""),
            )
        )
    return changes


def _gone(before: Collection[str], after: Collection[str], renamed: Collection[str]) -> list[str]:
    return [name for name in before if name not in after and name not in renamed]


def _difference(old: Definition, new: Definition) -> str:
    """The fields that differ, in words."""
    parts: list[str] = []
    for field in type(new).__struct_fields__:
        a, b = getattr(old, field), getattr(new, field)
        if a != b and field != "was":
            parts.append("code" if field in ("entry", "transform") else f"{field}: {_short(a)} → {_short(b)}")
    return "; ".join(parts)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def leads(definitions: Project, environment: str) -> bool:
    """Whether versions go on from here to another environment: then its traffic is for trying, and starts no trainings and no canaries."""
    return any(e.after == environment for e in definitions.environments)
