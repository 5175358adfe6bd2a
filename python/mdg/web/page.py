"""Pages for people: one frame and one style for all of them. A page runs no script, loads nothing and sends nothing,
and its policy (CSP Level 3) tells the browser so.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:1rem 1rem 3rem;color:#1b2733}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.15rem;margin-top:2rem}
dl{display:grid;grid-template-columns:minmax(9rem,16rem) 1fr;gap:.35rem 1rem}
dt{color:#52606d}dd{margin:0;overflow-wrap:anywhere}a{color:#0b5cad}
.sandbox{background:#b3261e;color:#fff;padding:.5rem 1rem;margin:-1rem -1rem 1rem;font-weight:600}
@media (max-width:32rem){dl{grid-template-columns:1fr}dd{margin-bottom:.6rem}}
@media (prefers-color-scheme:dark){body{color:#e4e9ee;background:#14191f}dt{color:#9fb0c0}a{color:#7db8f5}}
"""
SANDBOX = "Sandbox: made-up people and stand-ins for the national services. Nothing here proves who anybody is."

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""`Content-Security-Policy` of every page."""


def page(title: str, body: Iterable[str], *, sandbox: bool) -> str:
    """A whole HTML document. `title` is text; each part of `body` is HTML made by the functions below."""
    head = f"<title>{escape(title)}</title><style>{STYLE}</style>"
    viewport = '<meta name="viewport" content="width=device-width,initial-scale=1">'
    mark = f'<p class="sandbox">{SANDBOX}</p>' if sandbox else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{viewport}{head}</head>'
        f"<body>{mark}<h1>{escape(title)}</h1>{''.join(body)}</body></html>"
    )


def text(value: object) -> str:
    """`value` as text of a page."""
    return escape(str(value))


def link(address: str, words: str = "") -> str:
    """A link to `address`, which is a path of this listener or a web address. Any other text, such as `javascript:`, is
    shown and links to nothing."""
    shown = escape(words or address)
    if not address.startswith(("/", "http://", "https://")):
        return shown
    return f'<a href="{escape(address)}" rel="noreferrer">{shown}</a>'


def terms(rows: Mapping[str, str]) -> str:
    """A list of terms: each key is text, each value is HTML."""
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{said}</dd>" for term, said in rows.items()) + "</dl>"
