"""One self-contained HTML file from JSON-like content: the shared document, style and scripts of this folder.

A page holds patient text: it is readable by its owner alone, loads nothing, and shows every text as plain text.
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

from r2gen.runs.files import write_whole

Row = dict[str, Any]  # one JSON object

FOLDER = Path(__file__).parent
DATA = '<script type="application/json" id="data">'


def write_document(path: Path, *, title: str, scripts: Sequence[str], content: Row) -> Path:
    """Write the page whole or not at all, and give its path. `scripts` are files of this folder, run in their order;
    they find `content` as `data`."""
    write_whole(path, _fill(title=title, scripts=scripts, content=content), mode=0o600)
    return path


def content_of(page: Path) -> Row:
    """The content of a page that is there."""
    content: Row = json.loads(page.read_text(encoding="utf-8").partition(DATA)[2].partition("</script>")[0])
    return content


def _fill(*, title: str, scripts: Sequence[str], content: Row) -> str:
    """The document with everything in it; its policy allows this one script and no request at all."""
    document, style, *parts = (
        (FOLDER / name).read_text(encoding="utf-8") for name in ("document.html", "style.css", *scripts)
    )
    script = '"use strict";\n' + "".join(parts)
    # Hashed as the browser sees it: with the line end that follows the tag.
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode("ascii")
    values = {
        "TITLE": html.escape(" ".join(title.split())),
        "SCRIPT_HASH": digest,
        "DATA": _inert_json(content),
        "STYLE": style,
        "SCRIPT": script,
    }
    return re.sub(r"@@([A-Z_]+)@@", lambda found: values[found[1]], document)


def _inert_json(content: Row) -> str:
    """JSON that cannot leave a <script> element: nothing but ASCII, and no <, > or & in it."""
    text = json.dumps(_finite(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """NaN and infinity have no word in JSON: they become null, which the pages show as "not a number"."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value
