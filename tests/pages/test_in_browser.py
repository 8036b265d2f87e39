"""The pages in a real browser: nothing is blocked or broken, nothing is wider than the window, controls work."""

from pathlib import Path

import pytest
from browser import browser_page
from fake_run import finished_run, image, started_run, study_ids
from fake_sweep import make

from r2gen.evaluate.labeler import stated_findings
from r2gen.pages.run import chosen_studies, write_page


def run_page(folder: Path) -> Path:
    run = finished_run(folder)
    images = {study: [image(number)] for number, study in enumerate(chosen_studies(study_ids(run), count=5))}
    return write_page(run, images=images, findings_of=stated_findings)


def test_the_studies_of_a_run_are_filtered_turned_and_saved(tmp_path: Path) -> None:
    page_file = run_page(tmp_path / "run")
    with browser_page() as (page, errors):
        page.goto(page_file.as_uri())
        assert page.locator("article").count() == 24
        assert page.evaluate("axisEnds([1, 1 + 1e-9])") == pytest.approx([0.9975, 1.0025], abs=1e-6)
        assert page.evaluate("axisEnds([0.2, 0.3])") == [0.2, 0.3]
        assert "1 to 24 of 60" in page.locator(".pages").inner_text()
        page.get_by_role("button", name="Next →").click()
        assert "25 to 48 of 60" in page.locator(".pages").inner_text()
        missed = page.locator("option", has_text="Missed: Pneumonia").first
        page.get_by_label("Findings").select_option(missed.get_attribute("value"))
        shown = page.locator("article")
        assert 0 < shown.count() < 60
        assert all("− Pneumonia" in shown.nth(number).inner_text() for number in range(shown.count()))
        page.get_by_label("Sort by").select_option("f1")
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").click()
        saved = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
        assert saved[0].startswith('"id","reference","report"')
        assert len(saved) == 1 + int(page.locator(".count").inner_text().split()[0])
        page.get_by_role("button", name="Random").click()
        assert page.locator("article").count() == 1
        assert errors == []


def test_an_image_is_enlarged_moved_and_windowed(tmp_path: Path) -> None:
    page_file = run_page(tmp_path / "run")
    with browser_page() as (page, errors):
        page.goto(page_file.as_uri())
        page.locator(".images button").first.click()
        picture = page.locator("dialog img")
        assert picture.bounding_box()["width"] > 1000
        assert "480 × 480 pixels" in page.locator("dialog .where").inner_text()
        picture.hover()
        page.mouse.wheel(0, -100)
        page.mouse.down()
        page.mouse.move(400, 400)
        page.mouse.up()
        page.get_by_label("Brightness").fill("0.7")
        style = picture.get_attribute("style")
        assert "scale(1.2)" in style
        assert "brightness(1.66667)" in style
        page.get_by_role("button", name="Reset").click()
        assert "scale(1)" in picture.get_attribute("style")
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()
        assert errors == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_window(tmp_path: Path, width: int, scheme: str) -> None:
    failed = write_page(started_run(tmp_path / "failed", status="failed", reason="out of memory"), images={})
    pages = [run_page(tmp_path / "run"), make(tmp_path / "sweep", 8), failed]
    with browser_page(width=width, scheme=scheme) as (page, errors):
        for file in pages:
            page.goto(file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            links = page.locator("nav a")
            assert all(page.locator(links.nth(number).get_attribute("href")).count() for number in range(links.count()))
        assert errors == []
