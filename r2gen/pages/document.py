"""Writes a page: one self-contained HTML file made of this folder's document, style and scripts, and of JSON content.

A page contains patient text. It is readable by its owner alone, loads nothing, and shows every text as plain text.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.runs.files import write_whole
from r2gen.runs.untrusted import parse_json, read_text

JsonObject = Plain

FOLDER = Path(__file__).parent
SHARED = ("numbers", "elements", "scores", "ticks", "charts", "plots", "words", "findings", "viewer", "studies")
PATIENT = (
    "Contains patient text and images.",
    "Keep this file where it was written and do not share it. The reports are machine output for research, not for "
    "diagnosis.",
)
DATA = '<script type="application/json" id="data">'


def write_document(
    path: Path, *, title: str, scripts: Sequence[str], content: JsonObject, notice: Sequence[str] = PATIENT
) -> Path:
    """Write the page atomically and return its path. The arguments are those of `document`."""
    write_whole(path, document(title=title, scripts=scripts, content=content, notice=notice))
    return path


def content_of(page: Path) -> JsonObject:
    """The content of a page written before; empty if there is none, or if it was edited or torn."""
    try:
        content = parse_json(read_text(page).partition(DATA)[2].partition("</script>")[0])
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def document(
    *,
    title: str,
    scripts: Sequence[str],
    content: JsonObject,
    notice: Sequence[str] = PATIENT,
    connects: bool = False,
) -> str:
    """The text of the page. Its content security policy allows this one script and no request.

    `scripts` are files of scripts/, without `.js`; they run in this order after the shared ones and read `content` as
    `data`. `notice` is a bold and a plain text above the page. A page that `connects` may send requests to the server
    that it came from.
    """
    files = ["document.html", "style.css", *(f"scripts/{name}.js" for name in (*SHARED, *scripts))]
    document, style, *parts = ((FOLDER / name).read_text(encoding="utf-8") for name in files)
    script = '"use strict";\n' + "".join(parts)
    # The browser hashes the script with the line break that follows the opening tag.
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode("ascii")
    strong, rest = notice
    values = {
        "POLICY": " connect-src 'self';" if connects else "",
        "NOTICE": f"<strong>{html.escape(strong)}</strong> {html.escape(rest)}",
        "TITLE": html.escape(" ".join(title.split())),
        "SCRIPT_HASH": digest,
        "DATA": _inert_json(content),
        "STYLE": style,
        "SCRIPT": script,
    }
    return re.sub(r"@@([A-Z_]+)@@", lambda placeholder: values[placeholder[1]], document)


def _inert_json(content: JsonObject) -> str:
    """The content as JSON that cannot end a <script> element: ASCII only, with <, > and & escaped."""
    text = json.dumps(_finite(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """The value with null for NaN and infinity, which JSON cannot express; pages show them as "NaN or infinity"."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value
