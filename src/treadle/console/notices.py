"""What a page says after something was done: who reads it comes from a form, so the address only carries which sentence, and ids."""

from collections.abc import Callable

from msgspec import Struct

from treadle.console.asked import Address


class Notice(Struct, frozen=True, kw_only=True):
    """One line over the page. `undo` is what takes it back: (form action, fields, the button's words)."""

    tone: str
    text: str
    undo: tuple[str, list[tuple[str, str]], str] | None = None


def _many(n: int, one: str) -> str:
    return f"{n:,} {one}{'' if n == 1 else 's'}"


_SAID: dict[str, Callable[[int], str]] = {
    "binned": lambda n: f"{_many(n, 'run')} went to the bin and can be restored until removed for good.",
    "restored": lambda n: f"{_many(n, 'run')} came back from the bin.",
    "moved": lambda n: f"{_many(n, 'run')} moved here.",
    "moved_nowhere": lambda n: "No run was moved: there is no such experiment. Write its id, or its name as it stands in the list.",
    "created": lambda n: "The experiment is made.",
    "saved": lambda n: "Saved.",
    "view_saved": lambda n: "The view is kept under its name, for everybody.",
    "view_renamed": lambda n: "The view has its new name, for everybody.",
    "view_deleted": lambda n: "The view is forgotten; its runs are untouched.",
    "experiment_binned": lambda n: "The experiment and its runs went to the bin and can be restored until removed for good.",
    "experiment_restored": lambda n: "The experiment came back from the bin, with the runs that went with it.",
    "removed": lambda n: f"{_many(n, 'thing')} removed for good.",
    "rule": lambda n: "The rule is set: the worker applies it once an hour.",
    "rule_gone": lambda n: "The rule is taken back; what it let go does not come back.",
    "applied": lambda n: f"The rules were applied to {_many(n, 'thing')}.",
    "webhook": lambda n: "The address is told from now on. Try it: the button sends an example.",
    "webhook_gone": lambda n: "The address is told nothing any more.",
    "asked": lambda n: "The question is put: whoever may approve finds it on the overview.",
    "granted": lambda n: "Approved.",
    "refused": lambda n: "Refused.",
    "withdrawn": lambda n: "The question is taken back; it can be asked again.",
    "alias": lambda n: "The alias is set.",
    "alias_gone": lambda n: "The alias is gone; the version is untouched.",
    "state": lambda n: "The state is changed.",
    "card": lambda n: "The card is kept.",
    "version_deleted": lambda n: "The version is deleted; its number is not given again.",
    "model_deleted": lambda n: "The model and its versions are deleted.",
}

#: What did not succeed.
_FAILED = ("moved_nowhere",)


def notice(here: Address, base: str) -> Notice | None:
    """What the address asks to say; nothing that it could make up itself."""
    said = _SAID.get(here.get("said"))
    if said is None:
        return None
    n = here.get("done")
    ids = [r for r in here.get("undo").split(",") if r][:200]
    undo = None
    if ids and here.get("said") in ("binned", "restored"):
        act = "restore" if here.get("said") == "binned" else "bin"
        fields = [("act", act), ("back", here.to(said=None, done=None, undo=None)), *(("run", r) for r in ids)]
        undo = (f"{base}/runs", fields, "Undo: restore" if act == "restore" else "Undo: to the bin")
    return Notice(
        tone="harm" if here.get("said") in _FAILED else "healthy", text=said(int(n) if n.isdigit() and len(n) < 9 else 1), undo=undo
    )
