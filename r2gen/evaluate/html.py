"""report.html: one self-contained page of a run, made from the run folder's own files. Imports no torch.

The page holds patient text: it stays in the run folder (mode 0700), loads nothing, and shows reports as plain text.
"""

import base64
import hashlib
import html
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from yaml import YAMLError

from r2gen.errors import UserError

Row = dict[str, Any]  # one JSON object of a run file

TEMPLATE = Path(__file__).with_name("page.html")
GROUPS = ("lm", "vision", "projector", "tune", "tune/lm", "quant", "data", "generation")
PARTS_OF_A_CHOICE = ("name", "path", "arch", "mode", "_target_")  # what names a group's file once it is resolved
CURVE_POINTS = 1600
FILM_SIZES_PX = (320, 224, 160, 96)  # the first with which all films together fit
FILM_BYTES = 2_000_000
JPEG_QUALITY = 80


def write_page(run_dir: Path, *, films: Mapping[str, Sequence[Image.Image]]) -> Path:
    """(Re)write run_dir/report.html from the run's own files, atomically (temporary name, then rename).

    `films` maps a study's id to its films (mode L); only those of the studies on the page are embedded. Returns the
    page's path. Only run.json and config.yaml must be there. Raises UserError naming a broken file (and line).
    """
    metrics = _optional_object(run_dir / "metrics.json")
    config_text, choices = _config(run_dir / "config.yaml")
    run = _object(run_dir / "run.json")
    page = _fill(
        title=str(run.get("name") or run_dir.name),
        content={
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "folder": run_dir.name,
            "run": run,
            "config": config_text,
            "choices": _typed_choices(choices, run.get("overrides") or []),
            "curves": _curves(run_dir / "train.jsonl"),
            "metrics": {key: value for key, value in metrics.items() if key != "per_report"} or None,
            "studies": _studies(run_dir / "predictions", metrics=metrics, films=films),
        },
    )
    return _replace(run_dir / "report.html", page)


def chosen_studies(ids: Sequence[str], *, count: int = 24) -> list[str]:
    """The studies on the page: evenly spread over the sorted ids, the same at every refresh and in any order of ids."""
    ordered = sorted(set(ids))
    if len(ordered) <= count:
        return ordered
    return [ordered[index * len(ordered) // count] for index in range(count)]


# ---------------------------------------------------------------------------------------------- reading the run's files


def _object(path: Path) -> Row:
    """The JSON object in a file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {path.parent} is no run folder") from None
    except ValueError as error:
        raise UserError(f"{path} is not readable as JSON ({error}): restore it or run the evaluation again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__} where an object is expected")
    return value


def _optional_object(path: Path) -> Row:
    return _object(path) if path.exists() else {}


def _lines(path: Path) -> list[Row]:
    """The objects of a .jsonl file; a last line torn by a kill is left out, any other broken line is an error."""
    if not path.exists():
        return []
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), start=1) if line.strip()]
    rows: list[Row] = []
    for number, line in lines:
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == lines[-1][0]:
                break
            raise UserError(f"{path}, line {number} is broken ({error}): remove that line") from None
        rows.append(row)
    return rows


def _config(path: Path) -> tuple[str, Row]:
    """The resolved configuration as text, and the name of what each group chose."""
    try:
        text = path.read_text(encoding="utf-8")
        config = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {path.parent} is no run folder") from None
    except (ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is not readable as YAML: {error}") from None
    chosen = {group: _choice(config, group.split("/")) for group in GROUPS}
    return text, {group: name for group, name in chosen.items() if name is not None}


def _choice(config: Any, keys: Sequence[str]) -> str | None:
    """What names a group's choice: its own word, or the name, path or class inside; None where nothing does."""
    for key in keys:
        if not isinstance(config, dict) or key not in config:
            return None
        config = config[key]
    if config is None:
        return "none"
    if not isinstance(config, dict):
        return str(config)
    for part in PARTS_OF_A_CHOICE:
        if isinstance(config.get(part), str):
            name: str = config[part]
            return name.rpartition(".")[2] if part == "_target_" else name.rstrip("/").rpartition("/")[2]
    return None


def _typed_choices(choices: Row, overrides: Sequence[str]) -> Row:
    """A group typed on the command line has its name there."""
    typed = dict(override.split("=", 1) for override in overrides if "=" in override)
    named = {group: typed.get(group, choices.get(group)) for group in GROUPS}
    return {group: name for group, name in named.items() if name is not None}


# ------------------------------------------------------------------------------------------------------ what is shown


def _curves(path: Path) -> Row:
    """Steps and validations to draw. Of a stretch trained twice (killed, then resumed) the later one counts."""
    kept: dict[str, list[Row]] = {"step": [], "validation": []}
    for number, row in enumerate(_lines(path), start=1):
        if row.get("event") not in kept:
            continue
        if not isinstance(row.get("step"), int):
            raise UserError(f'{path}, event {number} has no "step": remove that line')
        rows = kept[row["event"]]
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    return {"steps": _thin(kept["step"]), "logged": len(kept["step"]), "validations": kept["validation"]}


def _thin(rows: list[Row]) -> list[Row]:
    """About CURVE_POINTS rows at most: of each stretch those with the lowest and highest loss, so a spike survives."""
    if len(rows) <= CURVE_POINTS:
        return rows
    length = math.ceil(2 * len(rows) / CURVE_POINTS)
    kept = {0, len(rows) - 1}
    for start in range(0, len(rows), length):
        stretch = range(start, min(start + length, len(rows)))
        kept |= {min(stretch, key=lambda index: _loss(rows[index])), max(stretch, key=lambda index: _loss(rows[index]))}
    return [rows[index] for index in sorted(kept)]


def _loss(row: Row) -> float:
    """For ordering only: a loss that is no number counts as the highest."""
    loss = row.get("loss")
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else math.inf


def _studies(folder: Path, *, metrics: Row, films: Mapping[str, Sequence[Image.Image]]) -> Row | None:
    """The chosen studies of the test split, or of val while there is no test; None before the first prediction."""
    path = _predictions_file(folder, generation=metrics.get("generation"))
    if path is None:
        return None
    lines = _lines(path)
    if not lines:
        return None  # killed before its first line was whole
    header, *rows = lines
    if "header" not in header:
        raise UserError(f"{path}, line 1 is no header: delete the file and evaluate again")
    split, generation = path.name.removesuffix(".jsonl").split(".", 1)
    by_id = {str(row["id"]): row for row in rows}
    chosen = chosen_studies(list(by_id))
    embedded = _embedded({study: films[study] for study in chosen if study in films})
    per_report: dict[str, dict[str, float]] = (metrics.get("per_report") or {}).get(split) or {}
    return {
        "split": split,
        "generation": generation,
        "header": header["header"],
        "total": len(by_id),
        "distinct": len({row["report"] for row in rows}),
        "cut": sum(row.get("finish") == "length" for row in rows),
        "rows": [
            {
                **by_id[study],
                "films": embedded.get(study, []),
                "scores": {name: values[study] for name, values in per_report.items() if study in values},
            }
            for study in chosen
        ],
    }


def _predictions_file(folder: Path, *, generation: str | None) -> Path | None:
    """The file to show: test before val; in it the generation that was scored, otherwise the newest."""
    for split in ("test", "val"):
        scored = folder / f"{split}.{generation}.jsonl"
        if scored.exists():
            return scored
        found = sorted(folder.glob(f"{split}.*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        if found:
            return found[-1]
    return None


def _embedded(films: Mapping[str, Sequence[Image.Image]]) -> dict[str, list[str]]:
    """Films as JPEG data URIs, of the largest size in FILM_SIZES_PX with which they stay under FILM_BYTES together."""
    embedded: dict[str, list[str]] = {}
    for size_px in FILM_SIZES_PX:
        embedded = {study: [_data_uri(view, size_px=size_px) for view in views] for study, views in films.items()}
        if sum(len(uri) for uris in embedded.values() for uri in uris) <= FILM_BYTES:
            break
    return embedded


def _data_uri(film: Image.Image, *, size_px: int) -> str:
    small = film.convert("L")
    small.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


# --------------------------------------------------------------------------------------------------- writing the page


def _fill(*, title: str, content: Row) -> str:
    """The template with the data in it; the page's policy allows this one script and no request at all."""
    template = TEMPLATE.read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    values = {"TITLE": html.escape(" ".join(title.split())), "SCRIPT_HASH": digest, "DATA": _inert_json(content)}
    return re.sub(r"@@([A-Z_]+)@@", lambda found: values[found[1]], template)


def _inert_json(content: Row) -> str:
    """JSON that cannot leave a <script> element: nothing but ASCII, and no <, > or & in it."""
    text = json.dumps(_finite(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """NaN and infinity have no word in JSON: they become null, which the page shows as "not a number"."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


def _replace(path: Path, text: str) -> Path:
    """Write under a temporary name (readable by the owner only), then rename: a reader sees the old page or the new."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as page:
            page.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
