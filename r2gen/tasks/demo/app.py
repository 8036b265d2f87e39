"""The demo as a web application: the page, and POST /report, which answers uploaded images with reports."""

import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive

from r2gen.data.images import read_image
from r2gen.errors import UserError, printable
from r2gen.evaluate.labeler import NO_FINDING, stated_findings
from r2gen.pages.document import document
from r2gen.pages.images import IMAGE_SIZES_PX, embedded
from r2gen.runs.files import PARTIAL
from r2gen.tasks.demo.nearest import TrainingReports
from r2gen.trained_run import TrainedRun

SCRIPTS = ("demo/page",)
NOTICE = (
    "Not for diagnosis.",
    "Research software: a report may be wrong or invented. Images stay on this machine and are removed after each "
    "report; reports are patient text.",
)
MOST_IMAGES = 8  # of a study
MOST_WAITING = 8  # requests; the next one is refused
FIELD, INDICATION = "image", "indication"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_SENTENCE = re.compile(r"(?<=[.;!?])\s+")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


@dataclass(frozen=True)
class Writer:
    """A trained run that writes reports."""

    name: str
    run: TrainedRun

    @property
    def reads_indication(self) -> bool:
        return self.run.context is not None and INDICATION in self.run.context.options.fields

    def write(self, images: Sequence[Path], *, indication: str | None = None) -> dict[str, Any]:
        begun = time.monotonic()
        report = self.run.generate(images, indication=indication if self.reads_indication else None)
        return {"name": self.name, **described(report), "seconds": round(time.monotonic() - begun, 3)}


def described(report: str) -> dict[str, Any]:
    """A report with its findings, and the findings of each of its sentences."""
    return {
        "report": report,
        "findings": list(stated_findings(report)),
        "sentences": [
            {"text": text, "findings": [finding for finding in stated_findings(text) if finding != NO_FINDING]}
            for text in _SENTENCE.split(report)
        ],
    }


class Demo:
    """Writes reports for uploads, one request at a time. Files are in a folder in `uploads` while it does."""

    def __init__(
        self,
        writers: Sequence[Writer],
        *,
        training: TrainingReports,
        uploads: Path,
        most_bytes: int,
        address: str,
        is_local: bool = True,
    ) -> None:
        self.writers, self.training, self.uploads = list(writers), training, uploads
        self.most_bytes, self.address, self.is_local = most_bytes, address, is_local
        self._waiting, self._lock = 0, Lock()

    def app(self) -> Starlette:
        # Another name is a web site's that points to this machine (DNS rebinding).
        hosts = ["127.0.0.1", "localhost"] if self.is_local else ["*"]
        return Starlette(
            routes=[Route("/", self.page), Route("/report", self.report, methods=["POST"])],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
            exception_handlers={HTTPException: _refused},
        )

    def page(self, request: Request) -> Response:
        content = {
            "runs": [writer.name for writer in self.writers],
            "most_bytes": self.most_bytes,
            "most_images": MOST_IMAGES,
            "reads_indication": any(writer.reads_indication for writer in self.writers),
            "command": f"curl -F {FIELD}=@frontal.png -F {FIELD}=@lateral.dcm {self.address}/report",
        }
        text = document(title="Demo", scripts=SCRIPTS, content=content, notice=NOTICE, connects=True)
        return HTMLResponse(text, headers=HEADERS)

    async def report(self, request: Request) -> Response:
        """The reports for the images of one study, and its indication, if the field of that name has one.

        With the field preview=1 the answer also has the images as the page shows them.
        """
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise HTTPException(403, "a page of another site sent this request")
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, f"{self._waiting} requests are waiting: try again later")
        self._waiting += 1
        try:
            bounded = Request(request.scope, _bounded(request.receive, self.most_bytes))
            async with bounded.form(max_files=MOST_IMAGES, max_fields=2) as form:
                files = [upload for upload in form.getlist(FIELD) if isinstance(upload, UploadFile)]
                if not files:
                    raise HTTPException(
                        400, f"send 1 to {MOST_IMAGES} files in the field {FIELD} (multipart/form-data)"
                    )
                indication, preview = form.get(INDICATION), form.get("preview") == "1"
                text = indication.strip() or None if isinstance(indication, str) else None
                result = await run_in_threadpool(self._answer, files, indication=text, preview=preview)
        finally:
            self._waiting -= 1
        return JSONResponse(result, headers=HEADERS)

    def _answer(self, files: Sequence[UploadFile], *, indication: str | None, preview: bool) -> dict[str, Any]:
        # What a killed demo leaves behind, the next command on this run removes (RunFolder.lock).
        with self._lock, tempfile.TemporaryDirectory(prefix=f"{PARTIAL}upload-", dir=self.uploads) as folder:
            paths = {}
            for number, upload in enumerate(files):
                suffix = Path(upload.filename or "").suffix.lower()
                path = Path(folder) / f"{number}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
                with path.open("wb") as out:
                    shutil.copyfileobj(upload.file, out)
                paths[path] = upload.filename or f"file {number + 1}"
            try:
                return self._write(list(paths), indication=indication, preview=preview)
            except UserError as error:
                message = str(error)
                for path, name in paths.items():
                    message = message.replace(str(path), name)
                raise HTTPException(400, printable(message)) from error

    def _write(self, paths: Sequence[Path], *, indication: str | None, preview: bool) -> dict[str, Any]:
        gray_bits = self.writers[0].run.gray_bits
        images = [read_image(path, at_least_px=IMAGE_SIZES_PX[0], gray_bits=gray_bits) for path in paths]
        first, *others = [writer.write(paths, indication=indication) for writer in self.writers]
        study = self.training.nearest(images)
        result = first | {
            "others": others,
            "nearest": None if study is None else {"id": study.id, **described(study.report)},
            "nearest_note": self.training.note,
        }
        return result | {"images": embedded({"study": images})["study"]} if preview else result


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=HEADERS)


def _bounded(receive: Receive, most_bytes: int) -> Receive:
    """The body of a request, which is refused once it is larger."""
    left = most_bytes

    async def next_part() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"the request has more than {most_bytes // 2**20} MiB (demo.max_mib)")
        return message

    return next_part
