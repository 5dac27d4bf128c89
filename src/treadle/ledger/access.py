"""Who may come in: the home's owner, actors, and tokens kept as argon2id hashes.

A fresh home has one owner and, on loopback, no login. A token is `trd_ID_SECRET` with a secret of 256 random bits, so the hash need
not be slow to be safe; it is slow enough (20 ms) that a process remembers which tokens it has verified. What it never remembers
is whether they still open anything: that is read on every request, so a revocation works from the next request on.
"""

import collections
import contextlib
import getpass
import os
import re
import secrets
import threading
from collections.abc import Iterator

import argon2

from treadle.records.calls import Actor, Grant, Role
from treadle.records.clock import SystemClock
from treadle.records.digests import digest
from treadle.records.errors import TreadleError
from treadle.store.db import Connection, Database
from treadle.store.queries import actors as queries
from treadle.store.queries import home

OWNER = "owner"
KINDS = ("person", "service", "policy")
EVERYWHERE = "*"
_REMEMBERED = 1024
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9@._-]{0,99}$")
_SCOPE = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99}|\*)$")
_TOKEN = re.compile(r"^trd_([A-Za-z0-9][A-Za-z0-9@._-]{0,99})_([0-9a-f]{64})$")
_clock = SystemClock()
_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


class Access:
    """Finds out who calls. One a process; safe for threads."""

    def __init__(self, database: Database):
        self._database = database
        self._verified: collections.OrderedDict[str, str] = collections.OrderedDict()
        self._lock = threading.Lock()

    def authenticate(self, token: str) -> Actor:
        """The actor whose token it is.

        Raises:
            TreadleError: `unauthenticated` for anything that is not a live token, in the same words whatever is wrong with it.
        """
        matched = _TOKEN.fullmatch(token)
        if matched:
            with self._database.read() as connection:
                known = queries.find_token(connection, matched[1])
            if known is not None and known.live and self._fits(token, known.hash):
                return known.actor
        raise TreadleError(
            "The token is unknown or revoked.",
            remedy="Ask an admin for a token, and pass it as TREADLE_TOKEN: treadle token add ACTOR",
            code="unauthenticated",
        )

    def actor_here(self) -> Actor:
        """Who works on this home directly: the holder of `TREADLE_TOKEN` where that is set, else the owner, made if need be."""
        token = os.environ.get("TREADLE_TOKEN")
        return self.authenticate(token) if token else ensure_owner(self._database)

    def owner(self) -> Actor:
        """The home's owner, who acts where nobody has to log in."""
        with self._database.read() as connection:
            return owner(connection)

    def any_token(self) -> bool:
        """Whether anybody could log in: without a live token, listening beyond loopback makes no sense."""
        with self._database.read() as connection:
            return queries.any_live_token(connection)

    def _fits(self, token: str, hash: str) -> bool:
        key = digest(token.encode())
        with self._lock:
            if self._verified.get(key) == hash:
                self._verified.move_to_end(key)
                return True
        try:
            _hasher.verify(hash, token)
        except argon2.exceptions.VerificationError:
            return False
        with self._lock:
            self._verified[key] = hash
            while len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        return True


def ensure_owner(database: Database, name: str | None = None) -> Actor:
    """The home's owner; on a fresh home made now, with the name of whoever runs this process."""
    with database.read() as connection:
        if home.get_value(connection, OWNER) is not None:
            return owner(connection)

    def make(tx: Connection) -> Actor:
        actor_id = home.get_value(tx, OWNER)
        if actor_id is None:
            made = Actor(actor_id=OWNER, name=name or _user(), kind="person", role=Role.admin)
            queries.insert_actor(tx, made, _clock.now())
            home.put_value(tx, OWNER, made.actor_id)
        return owner(tx)

    return database.write(make)


def owner(connection: Connection) -> Actor:
    """The home's owner.

    Raises:
        TreadleError: `not_found` where the home has none yet.
    """
    actor_id = home.get_value(connection, OWNER)
    actor = None if actor_id is None else queries.get_actor(connection, actor_id)
    if actor is None:
        raise TreadleError("The home has no owner yet.", remedy="Set it up: treadle init", code="not_found")
    return actor


def everybody(connection: Connection) -> list[Actor]:
    """All actors, by id."""
    return queries.list_actors(connection)


def create(tx: Connection, actor: Actor) -> bool:
    """Add an actor; False where the same one is there.

    Raises:
        TreadleError: `conflict` where the id is somebody else's, `bad_request` for an id or kind that is none.
    """
    if not _ID.fullmatch(actor.actor_id) or actor.actor_id == "system":
        raise TreadleError(
            f"{actor.actor_id[:80]!r} cannot be an actor's id.",
            remedy="Use letters, digits and '@._-', beginning with a letter or digit; 'system' is taken.",
        )
    if actor.kind not in KINDS:
        raise TreadleError(f"{actor.kind!r} is no kind of actor.", remedy=f"One of: {', '.join(KINDS)}")
    if queries.insert_actor(tx, actor, _clock.now()):
        return True
    known = find(tx, actor.actor_id)
    if (known.name, known.kind, known.role) != (actor.name, actor.kind, actor.role):
        raise TreadleError(
            f"There is an actor {actor.actor_id} already: {known.name}, {known.kind}, {known.role}.",
            remedy="Pick another id, or look at who is there: treadle actor list",
            code="conflict",
        )
    return False


def grant(tx: Connection, actor_id: str, given: Grant) -> bool:
    """Give an actor a role in a project and environment (`*`: all of them), on top of its own; False where it has just that already.

    Raises:
        TreadleError: `bad_request` for a project or environment that is no name, `not_found` for an unknown actor, `conflict` where a lower
            role in place of an admin's would leave nobody who may administrate.
    """
    for name in (given.project, given.environment):
        if not _SCOPE.fullmatch(name):
            raise TreadleError(
                f"{name[:80]!r} is no name for a project or environment.",
                remedy="Use letters, digits, '.', '_' and '-', beginning with a letter or digit; '*' stands for all.",
            )
    with _an_admin_stays(tx, actor_id, "lose that role"):
        if given in find(tx, actor_id).grants:
            return False
        queries.put_grant(tx, actor_id, given, _clock.now())
    return True


def take_back(tx: Connection, actor_id: str, project: str, environment: str) -> bool:
    """Take a grant back; False where the actor has none there. A role of its own stays.

    Raises:
        TreadleError: `not_found` for an unknown actor, `conflict` where nobody who may administrate would be left.
    """
    with _an_admin_stays(tx, actor_id, "lose that role"):
        find(tx, actor_id)
        return queries.delete_grant(tx, actor_id, project, environment)


def disable(tx: Connection, actor_id: str) -> bool:
    """Let an actor's tokens open nothing, from the next request on; False where it is disabled already.

    Raises:
        TreadleError: `not_found` for an unknown actor, `conflict` for the home's owner and for the last admin.
    """
    find(tx, actor_id)
    if home.get_value(tx, OWNER) == actor_id:
        raise TreadleError(
            f"{actor_id} owns this home and cannot be disabled: whoever works on the home's own files acts as the owner.",
            remedy=f"Revoke its tokens instead: treadle token list {actor_id}",
            code="conflict",
        )
    with _an_admin_stays(tx, actor_id, "be disabled"):
        return queries.set_disabled(tx, actor_id, True)


def enable(tx: Connection, actor_id: str) -> bool:
    """Undo `disable`: tokens that were not revoked open again. False where the actor is not disabled."""
    find(tx, actor_id)
    return queries.set_disabled(tx, actor_id, False)


def tokens(connection: Connection, actor_id: str) -> list[queries.TokenRow]:
    """An actor's tokens, oldest first: ids and times."""
    find(connection, actor_id)
    return queries.list_tokens(connection, actor_id)


def issue(tx: Connection, actor_id: str, token_id: str) -> str:
    """A new token for an actor; empty where this id was issued to it before, because its secret is gone.

    Raises:
        TreadleError: `not_found` for an unknown actor, `conflict` for a disabled one and for a token id of another actor.
    """
    if find(tx, actor_id).disabled:
        raise TreadleError(f"{actor_id} is disabled.", remedy=f"Enable it first: treadle actor enable {actor_id}", code="conflict")
    if not _ID.fullmatch(token_id):
        raise TreadleError(f"{token_id[:80]!r} cannot be a token's id.", remedy="Use letters, digits and '@._-': new_id('tok')")
    known = queries.token_owner(tx, token_id)
    if known is not None:
        if known != actor_id:
            raise TreadleError(f"Token {token_id} belongs to {known}.", remedy="Make a fresh id: treadle token add ACTOR", code="conflict")
        return ""
    token = f"trd_{token_id}_{secrets.token_hex(32)}"
    queries.insert_token(tx, token_id, actor_id, _hasher.hash(token), _clock.now())
    return token


def revoke(tx: Connection, actor_id: str, token_id: str) -> bool:
    """Revoke a token; False where it was revoked before.

    Raises:
        TreadleError: `not_found` where the actor has no such token.
    """
    if queries.token_owner(tx, token_id) != actor_id:
        raise TreadleError(
            f"{actor_id} has no token {token_id}.",
            remedy=f"See which it has: treadle token list {actor_id}",
            code="not_found",
        )
    return queries.revoke_token(tx, actor_id, token_id, _clock.now())


def find(connection: Connection, actor_id: str) -> Actor:
    """One actor with its grants.

    Raises:
        TreadleError: `not_found`.
    """
    actor = queries.get_actor(connection, actor_id)
    if actor is None:
        raise TreadleError(f"There is no actor {actor_id}.", remedy="See who is there: treadle actor list", code="not_found")
    return actor


@contextlib.contextmanager
def _an_admin_stays(tx: Connection, actor_id: str, loss: str) -> Iterator[None]:
    """Raises `conflict`, which undoes the change, where it takes the last one who may administrate the home."""
    queries.lock_actors(tx)
    before = _any_admin(tx)
    yield
    if before and not _any_admin(tx):
        raise TreadleError(
            f"{actor_id} is the last admin of this home and cannot {loss}.",
            remedy="Make somebody else an admin first: treadle actor grant NAME admin",
            code="conflict",
        )


def _any_admin(connection: Connection) -> bool:
    """Whether somebody may administrate the whole home: a person or service, not disabled, by its own role or by grant."""
    whole = Grant(project=EVERYWHERE, environment=EVERYWHERE, role=Role.admin)
    mighty = [a for a in queries.list_actors(connection) if a.role is Role.admin or whole in a.grants]
    return any(not a.disabled and a.kind != "policy" for a in mighty)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return OWNER
