"""The page of webhooks: what it lists, what its buttons do, and what it keeps of a form that was refused."""

import re
from html import unescape
from typing import Any

from console_still import HOOK, OWNER, Browser, Still
from msgspec.structs import replace

from treadle.console.app import build_console
from treadle.console.webhooks import EVENTS
from treadle.operations import webhooks
from treadle.records.calls import Role
from treadle.records.errors import TreadleError
from treadle.records.ledger import Page
from treadle.records.models import WebhookTest
from treadle.registry import hearing

THERE = "/projects/flights/prod/webhooks"
SAME = {"origin": "http://127.0.0.1"}
EVIL = "<img src=x onerror=alert(1)>\"'{{7*7}}</script>"


def text(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def asked(still: Still, kind: type) -> list[Any]:
    return [c[0] for c in still.calls if isinstance(c[0], kind)]


def test_the_form_offers_events_that_there_are() -> None:
    assert set(EVENTS) <= set(hearing.EVENTS)


def test_webhooks_and_deliveries_are_listed() -> None:
    still = Still()
    said = text(Browser(build_console(still)).get(f"{THERE}?webhook=whk_1&state=failed").text)
    assert "1 address is told when models change." in said
    assert "https://hooks.example.com/models" in said
    assert "it answered 503" in said
    request = asked(still, webhooks.ListWebhookDeliveries)[-1]
    assert (request.webhook_id, request.state) == ("whk_1", "failed")
    Browser(build_console(still)).get(f"{THERE}?webhook=nonsense&state=nonsense")
    request = asked(still, webhooks.ListWebhookDeliveries)[-1]
    assert (request.webhook_id, request.state) == ("", "")


def test_a_trial_says_what_was_answered() -> None:
    still = Still()
    browser = Browser(build_console(still))
    said = text(browser.post(THERE, {"act": "test", "webhook": "whk_1"}, SAME).text)
    assert "An example of model_version.created was sent, and answered with 204." in said
    still.answers[webhooks.TryWebhook] = WebhookTest(success=False, delivery_id="d", event="model_version.created", error=f"no {EVIL}")
    answer = browser.post(THERE, {"act": "test", "webhook": "whk_1"}, SAME).text
    assert "did not arrive: no <img" in text(answer).replace("&lt;", "<") or "did not arrive: no &lt;img" in answer
    assert "<img" not in answer


def test_a_webhook_is_made_switched_and_forgotten_only_from_the_console_itself() -> None:
    still = Still()
    browser = Browser(build_console(still))
    given = {"act": "add", "address": "https://hooks.example.com/m", "event": "model_version.created", "secret": "s3cret"}
    assert browser.post(THERE, given).status_code == 403
    assert browser.post(THERE, given, SAME).headers["location"] == f"{THERE}?said=webhook"
    made = asked(still, webhooks.CreateWebhook)[0]
    assert (made.name, made.address, made.events, made.secret) == (
        "hooks.example.com",
        "https://hooks.example.com/m",
        ["model_version.created"],
        "s3cret",
    )
    assert browser.post(THERE, {"act": "disabled", "webhook": "whk_1"}, SAME).status_code == 303
    assert asked(still, webhooks.UpdateWebhook)[0].state == "disabled"
    assert "still to be delivered" in text(browser.get(f"{THERE}?forget=whk_1").text)
    assert asked(still, webhooks.DeleteWebhook) == []
    assert browser.post(THERE, {"act": "forget", "webhook": "whk_1"}, SAME).headers["location"].endswith("said=webhook_gone")
    assert asked(still, webhooks.DeleteWebhook)[0].webhook_id == "whk_1"


def test_what_was_typed_is_kept_but_the_secret() -> None:
    still = Still()

    def refuse(request: Any) -> Any:
        raise TreadleError("The address is refused.", remedy="Use another.")

    still.answers[webhooks.CreateWebhook] = refuse
    given = {"act": "add", "address": "https://x.example", "name": EVIL, "event": "model_version_tag.set", "secret": "s3cret"}
    answer = Browser(build_console(still)).post(THERE, given, SAME)
    assert answer.status_code == 400
    assert "https://x.example" in answer.text
    assert re.search(r'value="model_version_tag.set" checked', answer.text)
    assert not re.search(r'value="model_version.created" checked', answer.text)
    assert "<img" not in answer.text
    assert "s3cret" not in answer.text


def test_a_viewer_reads_and_an_empty_page_teaches() -> None:
    still = Still()
    still.actor = replace(OWNER, role=Role.viewer)
    html = Browser(build_console(still)).get(THERE).text
    assert "<button" not in html.partition("<main")[2]
    still.answers[webhooks.ListWebhooks] = webhooks.Webhooks(items=[replace(HOOK, state="disabled")], page=Page())
    assert "0 addresses are told when models change; 1 switched off." in text(Browser(build_console(still)).get(THERE).text)
    still.answers[webhooks.ListWebhooks] = webhooks.Webhooks(items=[], page=Page())
    still.answers[webhooks.ListWebhookDeliveries] = webhooks.WebhookDeliveries(items=[], page=Page())
    assert "treadle webhooks add" in text(Browser(build_console(still)).get(THERE).text)
