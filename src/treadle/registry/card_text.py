"""A model card as Markdown, and as one HTML page that needs nothing else: no script, no address, printable.

Whatever people or clients wrote is text: it is escaped in both, and a browser that opens the page runs none of it.
"""

import html
import re

from msgspec.structs import replace

from treadle.records.models import Card, CardSection

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")
_INCOMPLETE = "What only its files say is missing from this card until then."
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { border-bottom: 1px solid #8888; margin-top: 2rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; font-size: .9rem }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem } dt { opacity: .7 } dd { margin: 0; overflow-wrap: anywhere }
p.text { white-space: pre-wrap } p.missing { border-left: 3px solid #c80; padding-left: .7rem; opacity: .85 } .sub { opacity: .7 }
@media print { :root { color-scheme: light; font-size: 11px } body { max-width: none; margin: 0 } h2 { break-after: avoid }
  tr, dl { break-inside: avoid } }
"""


def rendered(card: Card, format: str) -> Card:
    """The card with its text in `md` or `html`; as it is for `json`."""
    if format == "json":
        return card
    return replace(card, text=as_markdown(card) if format == "md" else as_html(card))


def as_markdown(card: Card) -> str:
    """Markdown: headings, tables, and text with its signs escaped."""
    lines = [f"# {_md(card.model)} {card.number}", "", f"Model card · {_md(card.project)} · {card.state} · {_when(card)}", ""]
    if card.unread:
        lines += [f"**{_md(card.unread)}** {_INCOMPLETE}", ""]
    for section in card.sections:
        lines += [f"## {section.title}", ""]
        if section.text:
            lines += [_paragraphs(section.text), ""]
        if section.fields:
            lines += [*(f"- **{_md(f.name)}**: {_cell(f.text)}" for f in section.fields), ""]
        for table in section.tables:
            lines += ["| " + " | ".join(map(_cell, table.columns)) + " |", "|" + " --- |" * len(table.columns)]
            lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows] + [""]
        if _empty(section):
            lines += [f"*{_md(section.missing)}*", ""]
    return "\n".join(lines).rstrip() + "\n"


def as_html(card: Card) -> str:
    """One HTML page."""
    title = f"{html.escape(card.model)} {card.number}"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">',
        f"<title>{title} · model card</title><style>{_STYLE}</style></head><body>",
        f'<h1>{title}</h1><p class="sub">Model card · {html.escape(card.project)} · {html.escape(card.state)} · {_when(card)}</p>',
    ]
    if card.unread:
        parts.append(f'<p class="missing" role="alert"><b>{html.escape(card.unread)}</b> {_INCOMPLETE}</p>')
    for section in card.sections:
        parts.append(f'<section id="{html.escape(section.key)}"><h2>{html.escape(section.title)}</h2>')
        if section.text:
            parts.append(f'<p class="text">{html.escape(section.text)}</p>')
        if section.fields:
            told = "".join(f"<dt>{html.escape(f.name)}</dt><dd>{html.escape(f.text)}</dd>" for f in section.fields)
            parts.append(f"<dl>{told}</dl>")
        for table in section.tables:
            head = "".join(f"<th>{html.escape(c)}</th>" for c in table.columns)
            rows = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in table.rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
        if _empty(section):
            parts.append(f'<p class="missing">{html.escape(section.missing)}</p>')
        parts.append("</section>")
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _empty(section: CardSection) -> bool:
    return bool(section.missing) and not section.text


def _md(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text).replace("\n", " ")


def _cell(text: str) -> str:
    return _md(text)


def _paragraphs(text: str) -> str:
    """Text of people, its lines kept; a line cannot become a heading, list, link or HTML."""
    return "  \n".join(re.sub(r"^(\s*)([-+=>]|\d+[.)])", r"\1\\\2", _SPECIAL.sub(r"\\\1", line)) for line in text.splitlines())


def _when(card: Card) -> str:
    return card.made.strftime("%Y-%m-%d %H:%M UTC")
