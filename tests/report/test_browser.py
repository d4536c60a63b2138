"""The page in a real browser: without a browser installed, these are skipped."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.report.browser import Browser, find_chromium
from tests.report.samples import HOSTILE
from vgg_deploy.bundle import open_bundle
from vgg_deploy.report.html import write_report

CHROMIUM = find_chromium()
A4 = 688  # CSS pixels: 210 mm less the page's margins
AXE = os.environ.get("AXE_CORE", "")  # axe.min.js of npm's axe-core
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed")


@pytest.fixture(scope="module")
def page(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(open_bundle(made_once), tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390])
def test_it_loads_fits_and_shows(
    browser: Browser, page: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.problems() == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.documentElement.scrollHeight") > 3000
    assert browser.value("document.querySelectorAll('svg').length") == 9
    image = Image.open(io.BytesIO(browser.screenshot(tmp_path / "shot.png"))).convert("L")
    levels = image.tobytes()
    assert (levels[0] < 60) == dark  # the corner is paper
    assert len(set(levels)) > 50  # not blank


def test_nothing_sticks_out_of_its_container(browser: Browser, page: Path) -> None:
    browser.open(page, width=390)
    outside = browser.value(
        """[...document.querySelectorAll('main *, header *')].filter(e =>
             !e.closest('.scroll, pre, .unseen') && e.getBoundingClientRect().right > 391)
           .map(e => e.tagName + '.' + e.className)"""
    )
    assert outside == []


def test_plot_labels_stay_inside_their_plot(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    outside = browser.value(
        """[...document.querySelectorAll('svg text')].filter(t => {
             const a = t.getBoundingClientRect();
             const b = t.closest('svg').getBoundingClientRect();
             return a.left < b.left - 1 || a.right > b.right + 1
                 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
           }).map(t => t.textContent)"""
    )
    assert outside == []


def test_a_hostile_label_is_text(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    assert browser.value("document.scripts.length") == 0
    last = "document.querySelector('ol.labels li:last-child').textContent"
    assert browser.value(last) == HOSTILE


def test_every_part_is_reached_by_keyboard_and_named(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    nameless = browser.value(
        """[...document.querySelectorAll('[role=region], [role=img], section, nav')].filter(e =>
             !(e.getAttribute('aria-label') ||
               document.getElementById((e.getAttribute('aria-labelledby') || '').split(' ')[0])))
           .length"""
    )
    assert nameless == 0
    browser.value("document.querySelector('.skip').focus()")
    left = browser.value("document.querySelector('.skip').getBoundingClientRect().left")
    assert left >= 0  # the skip link is seen when it has the focus


def test_nothing_is_wider_than_a_sheet(browser: Browser, page: Path) -> None:
    """Chromium shrinks a whole page whose widest part does not fit, letters and all."""
    browser.open(page, width=A4, media="print")
    outside = browser.value(
        f"""[...document.querySelectorAll('header *, main *')].filter(e =>
             !e.closest('.unseen') && e.getBoundingClientRect().right > {A4 + 0.5})
           .map(e => e.tagName + ' ' + e.textContent.slice(0, 60))"""
    )
    assert outside == []


def test_it_prints(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page, width=1280)
    printed = browser.pdf(tmp_path / "page.pdf")
    assert printed.startswith(b"%PDF")
    assert len(printed) > 50_000


@pytest.mark.skipif(not AXE, reason="AXE_CORE does not name npm's axe.min.js")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_axe_finds_no_serious_fault(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    browser.value(Path(AXE).read_text(encoding="utf-8") + ";0")
    faults = browser.value(
        """axe.run(document).then(found => found.violations
             .filter(v => ['serious', 'critical'].includes(v.impact))
             .map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' '))))"""
    )
    assert faults == []
