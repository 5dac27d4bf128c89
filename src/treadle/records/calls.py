"""Who calls: every operation runs as somebody, at some business time, at most once per idempotency key."""

import datetime as dt
from enum import StrEnum

from msgspec import Struct


class Role(StrEnum):
    """What an actor may do, each including the one before it."""

    viewer = "viewer"
    editor = "editor"
    approver = "approver"
    admin = "admin"


ROLE_ORDER = (Role.viewer, Role.editor, Role.approver, Role.admin)


class Grant(Struct, frozen=True, kw_only=True):
    """A role in one project and environment; `*` stands for all of them."""

    project: str
    environment: str
    role: Role


class Actor(Struct, frozen=True, kw_only=True):
    """Somebody: a person, a machine with a token, or a declared policy acting by itself."""

    actor_id: str
    name: str
    kind: str = "person"  # person | service | policy | system
    role: Role = Role.viewer
    grants: tuple[Grant, ...] = ()
    disabled: bool = False  # its tokens open nothing


class Call(Struct, frozen=True, kw_only=True):
    """The circumstances of one operation.

    `event_time` is business time (virtual in a replay); the recorded time is taken by the store when it commits.
    """

    actor: Actor
    event_time: dt.datetime
    idempotency_key: str | None = None


#: The actor of work that the system does on its own account: sealing, folding, advancing.
SYSTEM = Actor(actor_id="system", name="treadle", kind="system", role=Role.admin)
