"""Notes that people wrote, as HTML: escaped first, then a little of Markdown.

Headings, lists, code, emphasis and paragraphs; no links, images or HTML, since a note must not lead a reader anywhere that its page
does not.
"""

import re

from markupsafe import Markup, escape

_CODE = re.compile(r"`([^`\n]+)`")
_STRONG = re.compile(r"\*\*([^*\n]+)\*\*")
_SOFT = re.compile(r"(?<![*\w])\*([^*\s][^*\n]*)\*(?![*\w])")
_ITEM = re.compile(r"^\s{0,8}(?:[-*+]|\d{1,3}[.)])\s+(.*)$")
_HEAD = re.compile(r"^(#{1,6})\s+(.*)$")


def prose(text: str) -> Markup:
    """The HTML of a note.

    >>> print(prose("# Why\\n- *first* `a<b`\\n- **second**"))
    <h3>Why</h3><ul><li><em>first</em> <code>a&lt;b</code></li><li><strong>second</strong></li></ul>
    """
    made: list[str] = []
    paragraph: list[str] = []
    items: list[str] = []

    def close() -> None:
        if paragraph:
            made.append(f"<p>{'<br>'.join(paragraph)}</p>")
            paragraph.clear()
        if items:
            made.append(f"<ul>{''.join(f'<li>{i}</li>' for i in items)}</ul>")
            items.clear()

    lines = iter(text.replace("\r\n", "\n").split("\n"))
    for line in lines:
        if line.startswith("```"):
            close()
            code: list[str] = []
            for inner in lines:
                if inner.startswith("```"):
                    break
                code.append(str(escape(inner)))
            made.append(f"<pre><code>{chr(10).join(code)}</code></pre>")
        elif not line.strip():
            close()
        elif head := _HEAD.match(line):
            close()
            level = min(len(head[1]) + 2, 6)
            made.append(f"<h{level}>{_inline(head[2])}</h{level}>")
        elif item := _ITEM.match(line):
            if paragraph:
                close()
            items.append(_inline(item[1]))
        else:
            if items:
                close()
            paragraph.append(_inline(line))
    close()
    return Markup("".join(made))


def _inline(line: str) -> str:
    parts = _CODE.split(line)
    for i, part in enumerate(parts):
        text = str(escape(part))
        if i % 2:
            parts[i] = f"<code>{text}</code>"
        else:
            parts[i] = _SOFT.sub(r"<em>\1</em>", _STRONG.sub(r"<strong>\1</strong>", text))
    return "".join(parts)
