"""What a person may do about a question that waits: answer it, or take it back."""

from msgspec import Struct

from treadle.console.desk import Desk
from treadle.operations.workshop import GetApplied
from treadle.records.definitions import Environment, Project
from treadle.records.models import Approval


class Question(Struct, frozen=True, kw_only=True):
    """A question, as the person who looks at it finds it.

    Args:
        own: this person asked it, and may take it back.
        barred: it is the person's own, and the environment wants four eyes.
    """

    approval: Approval
    own: bool
    barred: bool


def question(desk: Desk, approval: Approval) -> Question:
    """A question as it stands before the person who asks for the page."""
    own = approval.asked_by == desk.actor.actor_id
    return Question(approval=approval, own=own, barred=own and _declared(desk, approval.environment).four_eyes)


def _declared(desk: Desk, environment: str) -> Environment:
    applied: Project | None = desk.call(GetApplied(project=desk.project, environment=environment))
    found = next((e for e in applied.environments if e.name == environment), None) if applied else None
    return found or Environment(name=environment)
