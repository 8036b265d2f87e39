"""Check that text and names use the standard terms, in README, docs, comments, docstrings, messages, pages and code.

`python tests/test_prose.py` prints each finding as `FILE:LINE: WORD (BETTER) in TEXT`.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COUNTED = (
    "bits?|bytes?|characters?|files?|images?|jobs?|lines?|MiB|GiB|nats?|process(?:es)?|ranks?|reports?|rows?|samples?|"
    "seconds?|steps?|studies|threads?|tokens?|weights?|words?"
)
PER = "rank|GPU|token|character|word|job|file|study|step|machine|process|core|second|system|cell|batch|split|epoch"

KINDS = (".md", ".py", ".yaml", ".js", ".html", ".css")

# Words to avoid, as regular expressions over running text, and what to write instead.
TEXT = {
    r"null[ _-]?rows?": "baseline",
    r"films?": "image",
    r"(?<!plus )(?<!minus )(?<!equals )(?<!percent )(?<!dollar )signs?(?! in\b)": "EOS or BOS token, character",
    r"roll[ _-]?calls?": "heartbeat",
    r"meetings?": "collective",
    r"(?:goes|go|went|gone|going) on": "resumes, continues",
    r"stands? (?!for\b)\w+|stood|standing": "is",
    r"(?:lie|lies|lay|lain) (?:in|at|under|beside|on|within|below|there|here|from)": "is in",
    r"what(?:ever)? ran out": "out of memory, out of disk space",
    r"whatever": "name it",
    r"means? nothing": "say what it ignores",
    r"(?:is|are|was|were|be|been|not|never) (?:told|said|asked)": "reported, passed, requested",
    r"(?:who|which|that|it|page|file|user|line|table|name|row) (?:tells?|told|said)": "shows, reports",
    r"told (?:apart|by)": "distinguished",
    r"typed(?! `?(?:\w+ )?(?:config|object|schema|field|value|dataclass|dictionary|error))": "passed",
    r"(?:to|or|and|again|;|:|,) types? (?:-|it|them|this|again|each|both|another|instead|\w+[.=])": "pass, add, use",
    r"(?<!quotation )(?<!question )(?<!punctuation )marks?": "special token, digest",
    r"mend(?:s|ed|ing)?": "fix",
    r"no numbers?(?! of)": "NaN or infinity",
    rf"(?:\d[\d,.]*|one|{COUNTED}) an? (?:{PER})(?! of)": "per",
    r"beside": "next to",
    r"made anew|anew": "again",
}
# Words to avoid in names, where underscores separate words.
NAMES = {
    r"null_?rows?": "baselines",
    r"films?": "images",
    r"signs?": "characters, tokens",
    r"roll_?call": "heartbeat",
    r"meetings?": "collectives",
    r"(?:goes|go|went) on": "resumes",
    r"stands?|stood": "is",
    r"lies": "is",
    r"whatever": "name it",
    r"told|said|asked|typed": "output, reported, passed, requested",
    r"marks?": "special_tokens, digest",
    r"beside": "next_to",
    r"mend(?:s|ed)?": "fix",
}
# Names that do not say what they hold.
BARE_NAMES = {
    "found": "predictions, matches, missing, ...",
    "one": "study, metric, override, ...",
    "kept": "checkpoints, studies, ...",
    "known": "names, choices, ...",
}


@dataclass(frozen=True)
class Allowed:
    """A use that stays: regular expressions for the file and for the text around the word, and the reason."""

    file: str
    text: str
    reason: str


ALLOWED = (
    Allowed(r".*", r"film_cache_mib|audit\.films|entries=film|`film`: |study \| film", "options keep their names"),
    Allowed(
        r"r2gen/(config/(schema|prepare_options)|tasks/audit|data/mimic)\.py|tests/.*",
        r"^films?$",
        "options keep their names",
    ),
    Allowed(r".*", r"films_by_view|data/films", "a key and a folder on disk"),
    Allowed(r"r2gen/pages/run\.py", r"films", "a key in pages of earlier versions"),
    Allowed(r"r2gen/evaluate/labeler/words\.py", r"^mended$", "a key of spelling.yaml"),
    Allowed(r"r2gen/evaluate/labeler/sentences\.py", r"no sign the heart", "a sentence of a report"),
    Allowed(r"r2gen/(compare/tables|evaluate/statistics)\.py", r"^sign$", "the sign of a number"),
    Allowed(r"r2gen/sweeps/record\.py", r"\"mark\"|^mark$", "a key of sweep.json"),
    Allowed(r"r2gen/data/mimic_sections\.py", r"FILM", "headings of reports"),
    Allowed(r".*", r"compare\.null_rows|^null_rows(=best.*)?$|null_rows: |\.null_rows", "an option and a key on disk"),
    Allowed(r".*", r"pytest\.mark|<mark|</mark>|\bmark \{|usefixtures", "pytest's and HTML's own name"),
    Allowed(r".*", r"(?i)byte[ _-]order[ _-]marks?", "the standard term"),
    Allowed(r"r2gen/pages/.*\.(js|css)", r"\bmarks?\b", "the drawn parts of a chart"),
    Allowed(r"r2gen/evaluate/labeler/.*\.yaml", r"", "any change, even of a comment, changes a signature"),
    Allowed(r"tests/test_prose\.py", r"", "the words themselves"),
    Allowed(
        r"tests/(evaluate/(labeler_sentences|test_(labeler|clinical_findings))|data/test_mimic).*",
        r"",
        "sentences of reports",
    ),
)


@dataclass(frozen=True)
class Finding:
    file: str
    line: int
    word: str
    better: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.word!r} ({self.better}) in: {self.text.strip()[:110]}"


def test_text_and_names_use_the_standard_terms():
    assert not findings(), "\n" + "\n".join(map(str, findings()))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("scores beside the null rows", "null rows"),
        ("the run goes on from step 40", "goes on"),
        ("its file lies at lm.path", "lies at"),
        ("a table of one row, and a token at its end", None),
        ("an equals sign, quotation marks and a typed configuration", None),
        ("20 tokens a second", "tokens a second"),
    ],
)
def test_an_ordinary_use_of_a_word_is_not_a_finding(text: str, word: str | None):
    words = [match.group() for pattern in TEXT for match in re.finditer(rf"\b(?:{pattern})\b", text)]
    assert (word in words) if word else not words


@cache
def files() -> tuple[str, ...]:
    folders = [ROOT / name for name in ("r2gen", "tests", "conf", "docs", "benchmarks", "sweeps", "hydra_plugins")]
    paths = [*ROOT.glob("*.*"), *(file for folder in folders for file in folder.rglob("*.*"))]
    names = [str(file.relative_to(ROOT)) for file in paths if file.suffix in KINDS and "golden" not in file.parts]
    return tuple(sorted(names))


@cache
def findings() -> tuple[Finding, ...]:
    return tuple(finding for name in files() for finding in of_file(name) if not allowed(finding))


def allowed(finding: Finding) -> bool:
    return any(re.fullmatch(use.file, finding.file) and re.search(use.text, finding.text) for use in ALLOWED)


def of_file(name: str) -> Iterator[Finding]:
    source = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        texts = [*comments(source), *strings(source)]
        for line, identifier in identifiers(source):
            yield from in_name(name, line, identifier)
    elif name.endswith(".yaml"):
        texts = [(number, line.partition("#")[2]) for number, line in enumerate(source.splitlines(), 1) if "#" in line]
    else:
        texts = list(enumerate(source.splitlines(), 1))
    for line, text in texts:
        for pattern, better in TEXT.items():
            for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
                around = text[max(0, match.start() - 60) : match.end() + 60].replace("\n", " ")
                yield Finding(name, line + text.count("\n", 0, match.start()), match.group(), better, around)


def in_name(name: str, line: int, identifier: str) -> Iterator[Finding]:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", identifier).lower().strip("_").replace("_", " ")
    for pattern, better in NAMES.items():
        if match := re.search(rf"\b(?:{pattern})\b".replace("_?", " ?"), words):
            yield Finding(name, line, match.group(), better, identifier)
    if identifier in BARE_NAMES:
        yield Finding(name, line, identifier, BARE_NAMES[identifier], f"{identifier} (a bare name)")


def comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Every string constant, docstrings and the fixed parts of f-strings among them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Every name that a file defines: variables, arguments, functions and classes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


if __name__ == "__main__":
    print("\n".join(map(str, findings())))
