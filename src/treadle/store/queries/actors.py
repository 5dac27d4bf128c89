"""Statements on actors, their grants and tokens."""

import datetime as dt
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from treadle.records.calls import Actor, Grant, Role
from treadle.store import tables as t
from treadle.store.upsert import insert_new, insert_or_update


class TokenRow(msgspec.Struct, frozen=True):
    """When a token was made and, if so, revoked."""

    token_id: str
    created_time: dt.datetime
    revoked_time: dt.datetime | None


class KnownToken(msgspec.Struct, frozen=True):
    """A token as kept: whose it is, its hash, and whether it still opens anything."""

    actor: Actor
    hash: str
    live: bool


def insert_actor(tx: Connection, actor: Actor, at: dt.datetime) -> bool:
    """A new actor; False where the id is there."""
    row = {"actor_id": actor.actor_id, "name": actor.name, "kind": actor.kind, "role": str(actor.role), "disabled": False}
    return insert_new(tx, t.actors, {**row, "recorded_time": at}) == 1


def get_actor(connection: Connection, actor_id: str) -> Actor | None:
    """One actor with its grants."""
    return next(iter(list_actors(connection, actor_id)), None)


def list_actors(connection: Connection, actor_id: str | None = None) -> list[Actor]:
    """Actors (or one) with their grants, by id: one statement."""
    a, g = t.actors.c, t.grants.c
    columns = (a.actor_id, a.name, a.kind, a.role, a.disabled, g.project, g.environment, g.role.label("granted"))
    joined = t.actors.outerjoin(t.grants, a.actor_id == g.actor_id)
    statement = select(*columns).select_from(joined).order_by(a.actor_id, g.project, g.environment)
    rows = connection.execute(statement if actor_id is None else statement.where(a.actor_id == actor_id)).all()
    return _actors(rows)


def put_grant(tx: Connection, actor_id: str, grant: Grant, at: dt.datetime) -> None:
    """Give an actor a role in a project and environment."""
    row = {"actor_id": actor_id, "project": grant.project, "environment": grant.environment, "role": str(grant.role), "recorded_time": at}
    insert_or_update(tx, t.grants, row)


def delete_grant(tx: Connection, actor_id: str, project: str, environment: str) -> bool:
    """Take a grant back; False where there is none."""
    g = t.grants.c
    where = (g.actor_id == actor_id, g.project == project, g.environment == environment)
    return tx.execute(delete(t.grants).where(*where)).rowcount == 1


def set_disabled(tx: Connection, actor_id: str, disabled: bool) -> bool:
    """Disable or enable an actor; False where it is so already or not there."""
    a = t.actors.c
    return tx.execute(update(t.actors).where(a.actor_id == actor_id, a.disabled.is_(not disabled)).values(disabled=disabled)).rowcount == 1


def lock_actors(tx: Connection) -> None:
    """Let nobody else change actors until this transaction ends, so that two cannot take the last two admins at once."""
    tx.execute(select(t.actors.c.actor_id).order_by(t.actors.c.actor_id).with_for_update()).all()


def list_tokens(connection: Connection, actor_id: str) -> list[TokenRow]:
    """An actor's tokens without their hashes, oldest first."""
    k = t.tokens.c
    statement = select(k.token_id, k.recorded_time, k.revoked_time).where(k.actor_id == actor_id).order_by(k.recorded_time, k.token_id)
    return [TokenRow(*row) for row in connection.execute(statement).all()]


def insert_token(tx: Connection, token_id: str, actor_id: str, hash: str, at: dt.datetime) -> None:
    """A new token's hash."""
    tx.execute(insert(t.tokens), {"token_id": token_id, "actor_id": actor_id, "hash": hash, "recorded_time": at})


def token_owner(connection: Connection, token_id: str) -> str | None:
    """Whose token it is, revoked or not."""
    return connection.execute(select(t.tokens.c.actor_id).where(t.tokens.c.token_id == token_id)).scalar()


def find_token(connection: Connection, token_id: str) -> KnownToken | None:
    """A token with its actor and the actor's grants: one statement, asked on every request."""
    a, g, k = t.actors.c, t.grants.c, t.tokens.c
    columns = (a.actor_id, a.name, a.kind, a.role, a.disabled, g.project, g.environment, g.role.label("granted"), k.hash, k.revoked_time)
    joined = t.tokens.join(t.actors, k.actor_id == a.actor_id).outerjoin(t.grants, a.actor_id == g.actor_id)
    rows = connection.execute(select(*columns).select_from(joined).where(k.token_id == token_id)).all()
    if not rows:
        return None
    return KnownToken(actor=_actors(rows)[0], hash=rows[0].hash, live=rows[0].revoked_time is None and not rows[0].disabled)


def revoke_token(tx: Connection, actor_id: str, token_id: str, at: dt.datetime) -> bool:
    """Revoke a token; False where it is revoked already or not there."""
    k = t.tokens.c
    where = (k.token_id == token_id, k.actor_id == actor_id, k.revoked_time.is_(None))
    return tx.execute(update(t.tokens).where(*where).values(revoked_time=at)).rowcount == 1


def any_live_token(connection: Connection) -> bool:
    """Whether somebody can log in."""
    a, k = t.actors.c, t.tokens.c
    joined = t.tokens.join(t.actors, k.actor_id == a.actor_id)
    statement = select(k.token_id).select_from(joined).where(k.revoked_time.is_(None), a.disabled.is_(False)).limit(1)
    return connection.execute(statement).first() is not None


def _actors(rows: Any) -> list[Actor]:
    found: dict[str, Actor] = {}
    for row in rows:
        made = Actor(actor_id=row.actor_id, name=row.name, kind=row.kind, role=Role(row.role), disabled=bool(row.disabled))
        actor = found.setdefault(row.actor_id, made)
        if row.granted is not None:
            grant = Grant(project=row.project, environment=row.environment, role=Role(row.granted))
            found[row.actor_id] = msgspec.structs.replace(actor, grants=(*actor.grants, grant))
    return list(found.values())
