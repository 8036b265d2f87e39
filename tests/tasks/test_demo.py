"""The demo: POST /report and its bounds, the page in a real browser, and the command itself."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from browser import browser_page
from composed import composed
from fake_run import image
from run_in_process import run_in_process
from smallest_run import command, run

from r2gen.data.context import StudyContext
from r2gen.errors import UserError
from r2gen.launch.listening import listen
from r2gen.tasks.demo.app import MOST_IMAGES, Demo, Writer
from r2gen.tasks.demo.nearest import TrainingReports

REPORT = "There is a small left pneumothorax. <b>No</b> pleural effusion. Possible edema."
FINDINGS = ["Edema (uncertain)", "Pneumothorax"]


class FixedRun:
    """A run that writes one report, and remembers the files that it read."""

    gray_bits: int | None = None

    def __init__(self, report: str) -> None:
        self.report, self.read, self.indications = report, list[Path](), list[str | None]()
        self.context: StudyContext | None = None

    def generate(self, images: Sequence[Path], *, indication: str | None = None) -> str:
        self.read += images
        self.indications.append(indication)
        assert all(path.is_file() for path in images)
        return self.report


@contextmanager
def served(uploads: Path, *reports: str, most_bytes: int = 2**20) -> Iterator[tuple[str, list[FixedRun]]]:
    """The address of a demo in this process, and its runs."""
    runs = [FixedRun(report) for report in reports or (REPORT,)]
    training = TrainingReports(composed("data.train_studies=12", "data.size_px=32"))
    while "read" in training.note:
        time.sleep(0.02)
    with listen("127.0.0.1", 0) as listener:
        address = "http://{}:{}".format(*listener.getsockname())
        demo = Demo(
            [Writer(f"run-{number}", fixed) for number, fixed in enumerate(runs)],  # type: ignore[arg-type]
            training=training,
            uploads=uploads,
            most_bytes=most_bytes,
            address=address,
        )
        server = uvicorn.Server(uvicorn.Config(demo.app(), log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield address, runs
        finally:
            server.should_exit = True
            thread.join(10)


def posted(
    address: str, *files: tuple[str, bytes], field: str = "image", indication: str = "", **headers: str
) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of the answer to some files, as curl -F sends them."""
    text = f'--x\r\nContent-Disposition: form-data; name="indication"\r\n\r\n{indication}\r\n' if indication else ""
    part = '--x\r\nContent-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n'
    body = b"".join(part.format(field, name).encode() + content + b"\r\n" for name, content in files)
    body += text.encode() + b"--x--\r\n"
    headers |= {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{address}/report", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def png(seed: int = 1) -> bytes:
    buffer = io.BytesIO()
    image(seed, size_px=64).save(buffer, format="PNG")
    return buffer.getvalue()


def dicom() -> bytes:
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.DigitalXRayImageStorageForPresentation, "1.2.3"
    data.Rows = data.Columns = 64
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.SamplesPerPixel, data.PixelRepresentation, data.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    data.PixelData = b"".join((16 * value).to_bytes(2, "little") for value in image(2, size_px=64).tobytes())
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_images_are_answered_with_report_and_findings_and_removed(tmp_path: Path) -> None:
    with served(tmp_path, REPORT, "The lungs are clear.") as (address, runs):
        status, answer = posted(address, ("../../a b.png", png()), ("c.dcm", dicom()))
    assert status == 200
    assert (answer["report"], answer["findings"]) == (REPORT, FINDINGS)
    assert [sentence["findings"] for sentence in answer["sentences"]] == [["Pneumothorax"], [], ["Edema (uncertain)"]]
    assert [(other["name"], other["findings"]) for other in answer["others"]] == [("run-1", ["No Finding"])]
    assert answer["nearest"]["id"].startswith("train-")
    assert [path.suffix for path in runs[0].read] == [".png", ".dcm"]
    assert all(path.is_relative_to(tmp_path) and not path.exists() for path in runs[0].read)
    assert list(tmp_path.iterdir()) == []


def test_the_indication_goes_to_the_runs_that_read_one(tmp_path: Path) -> None:
    with served(tmp_path, REPORT, REPORT) as (address, runs):
        runs[0].context = StudyContext(composed("context=indication").context, lambda text: [])
        assert posted(address, ("a.png", png()), indication=" Cough. ")[0] == 200
        assert posted(address, ("a.png", png()))[0] == 200
        with urllib.request.urlopen(address, timeout=30) as page:
            assert '"reads_indication":true' in page.read().decode().replace(" ", "")
    assert [run.indications for run in runs] == [["Cough.", None], [None, None]]


@pytest.mark.parametrize(
    ("files", "status", "message"),
    [
        ([("bad.png", b"broken")], 400, r"image bad\.png cannot be read"),
        ([("\x1b[2J.png", b"x")], 400, r"cannot be read"),
        ([], 400, "send 1 to 8 files in the field image"),
        ([("a.png", b"")] * (MOST_IMAGES + 1), 400, "Too many files"),
        ([("a.dcm", bytes(2**20))], 413, "more than 1 MiB"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_and_leaves_no_file(
    tmp_path: Path, files: list[tuple[str, bytes]], status: int, message: str
) -> None:
    with served(tmp_path) as (address, runs):
        answer = posted(address, *files)
    assert answer[0] == status
    assert re.search(message, answer[1]["error"])
    assert str(tmp_path) not in answer[1]["error"]
    assert answer[1]["error"].isprintable()
    assert runs[0].read == []
    assert list(tmp_path.iterdir()) == []


def test_another_site_cannot_use_it(tmp_path: Path) -> None:
    with served(tmp_path) as (address, _):
        assert posted(address, ("a.png", png()), Origin="http://evil.example")[0] == 403
        assert posted(address, ("a.png", png()), Origin=address)[0] == 200
        request = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request, timeout=30)


def test_the_page_in_a_browser_shows_reports_of_a_png_and_a_dicom_file(tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.dcm").write_bytes(dicom())
    with served(tmp_path / "uploads", REPORT, "Clear lungs.") as (address, _), browser_page() as (page, errors):
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)
        assert "Not for diagnosis" in page.inner_text("body")
        page.get_by_label("Images of one study").set_input_files([tmp_path / "a.png", tmp_path / "b.dcm"])
        page.get_by_role("button", name="Write the report").click()
        page.wait_for_selector("article")
        assert page.locator("[title=Pneumothorax]").first.inner_text() == "There is a small left pneumothorax."
        assert page.locator("article").nth(0).locator(".chip").all_inner_texts() == FINDINGS
        assert "Clear lungs." in page.locator("article").nth(1).inner_text()
        assert "most similar images" in page.locator("article").nth(2).inner_text()
        assert page.locator(".pictures img").count() == 2
        page.locator(".pictures button").nth(1).click()
        assert "64 × 64 pixels" in page.locator("dialog .where").inner_text()
        page.keyboard.press("Escape")
        assert {url for url in requested if not url.startswith("data:")} == {f"{address}/", f"{address}/report"}
        assert errors == []
        (tmp_path / "a.png").write_bytes(b"broken")
        page.get_by_label("Images of one study").set_input_files(tmp_path / "a.png")
        page.get_by_role("button", name="Write the report").click()
        page.wait_for_selector("text=Error: image a.png cannot be read")


def test_a_port_in_use_is_named_with_the_fix() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"demo\.port={port} is in use by another program: .*demo\.port=0"):
            listen("127.0.0.1", port)
    with pytest.raises(UserError, match=r"demo\.host=nowhere\.invalid is not an address of this machine"):
        listen("nowhere.invalid", 0)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has = find_spec
    monkeypatch.setattr("r2gen.launch.parts_check.find_spec", lambda name: None if name == "starlette" else has(name))
    golden = Path(__file__).parents[1] / "golden" / "run_of_the_version_before"
    run_dir = shutil.copytree(next(golden.glob("train-*")), tmp_path / "run", symlinks=True)
    status, output = run_in_process("task=demo", f"run_dir={run_dir}", cwd=tmp_path)
    assert (status, "pip install -c constraints.txt -e '.[demo]'" in output) == (2, True), output


@pytest.mark.slow
def test_the_command_serves_a_trained_run_until_a_signal(tmp_path: Path) -> None:
    assert run("run_dir=run", "evaluate.splits=[val]", cwd=tmp_path).returncode == 0
    words = ["task=demo", "run_dir=run", "runs=[run]", "demo.port=0"]
    process = subprocess.Popen(
        command(*words, smallest=False), cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("demo: "))
    address = line.split()[1]
    status, answer = posted(address, ("a.png", png()))
    assert (status, set(answer) >= {"report", "findings"}) == (200, True)
    assert [other["report"] for other in answer["others"]] == [answer["report"]]
    assert address.startswith("http://127.0.0.1:")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 0
    assert not list((tmp_path / "run").glob(".partial-*"))
