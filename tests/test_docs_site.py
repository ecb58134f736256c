"""The site: it builds without a warning, its links lead somewhere, and Chromium shows it well. docs/index.md, run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import aiohttp_session
import pytest
from aiohttp import web
from playwright.async_api import Browser as Chromium
from sphinx.errors import ExtensionError

import aiohttp_persistent_session
from aiohttp_persistent_session import rules
from aiohttp_persistent_session.testing import Browser

from .snippets import run_code

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MARKDOWN = [ROOT / f"{name}.md" for name in ("README", "CHANGES", "CONTRIBUTING", "SECURITY")] + sorted(
    DOCS.rglob("*.md")
)
SCREENSHOTS = ROOT / "screenshots"


@dataclass
class Page(HTMLParser):
    """What a page of the site leads to, loads, and can be led to."""

    path: Path
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        if of.get("id"):
            self.ids.add(str(of["id"]))
        for name in ("href", "src"):
            if of.get(name):
                (self.links if tag == "a" else self.loads).append(str(of[name]))


@dataclass
class Site:
    folder: Path
    code: int
    output: str

    @property
    def pages(self) -> dict[Path, Page]:
        return {path: Page(path) for path in sorted(self.folder.rglob("*.html"))}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site as `make docs` builds it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--doctree-dir", f"{folder}-doctrees"]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder)]
    # It imports the package: to count what that runs would take as long again.
    uncounted = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=uncounted)
    return Site(folder, done.returncode, done.stdout + done.stderr)


def extension(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The build


def test_the_site_builds_without_a_warning(site: Site) -> None:
    """Each reference of a docstring is resolved, and each page is in the contents."""
    assert (site.code, site.output) == (0, "")


def test_every_link_of_the_site_leads_somewhere(site: Site) -> None:
    """To a file, and to the place in it that it names."""
    pages = site.pages
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            if re.match(r"https?:|data:", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{path.relative_to(site.folder)}: {link}")
    assert broken == []


def test_the_site_loads_nothing_from_elsewhere(site: Site) -> None:
    """No font, script or style of another host: who reads it is told to nobody."""
    for path, page in site.pages.items():
        assert [one for one in page.loads if re.match(r"(https?:)?//", one)] == [], path
    for path in site.folder.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", path.read_text()) == [], path


def test_every_public_name_is_in_the_reference(site: Site) -> None:
    """What can be imported is documented."""
    ids = {one for path, page in site.pages.items() if path.parent.name == "reference" for one in page.ids}
    package = aiohttp_persistent_session.__name__
    assert {name for name in aiohttp_persistent_session.__all__ if f"{package}.{name}" not in ids} == set()


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_the_files_leads_somewhere(path: Path) -> None:
    """As they are read in the repository, without the site: the file, and the heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", sorted((DOCS / "howto").glob("*.md")), ids=lambda path: path.name)
def test_the_how_tos_are_in_plain_english(path: Path) -> None:
    """By the rules that tests/test_readme.py has for the other pages."""
    prose = re.sub(r"^```.*?^```$|^    .*$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?:^|[.!?:|] |\n\n|\*\*)(?:Or|Else|Nor|Not|Of|Whoever)\b[^\n]*", prose) == []
    assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_read_the_docs_builds_it_as_make_does() -> None:
    """With the same group, the same configuration, and without a warning."""
    text = (ROOT / ".readthedocs.yaml").read_text()
    assert "fail_on_warning: true" in text
    assert (ROOT / re.findall(r"configuration: (\S+)", text)[0]).exists()
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert set(re.findall(r"--group (\w+)", text)) == {"docs"} <= set(groups)
    assert "--group docs" in (ROOT / "Makefile").read_text()


# The diagram


def test_the_diagram_shows_every_outcome_once(site: Site) -> None:
    """As the protocol's page has it, with every row of both tables."""
    (diagram,) = re.findall(
        r'<figure class="rules-diagram">.*?</figure>', (site.folder / "protocol.html").read_text(), re.S
    )
    states = re.findall(r'<g class="state \w+">.*?<text[^>]*>(\w+)</text>', diagram)
    assert sorted(states) == sorted(outcome.name for outcome in rules.Outcome)
    rows = [line for line in (rules.__doc__ or "").splitlines() if re.match(r" +\|(?! -)", line)]
    assert diagram.count('<g class="edge') == len(rows) - 2  # the heads of both tables


def test_the_diagram_says_what_the_tables_say() -> None:
    """Outcome, conditions and what becomes of the record."""
    tables = extension("rules_diagram").read_tables(rules.__doc__)
    assert tables.without[-1] == (("not valid",), "REUSE", "ends (5)")
    assert tables.live[0] == (("any", "of no record, or one that is over"), "UNKNOWN", "stays (11)")
    assert {(row.outcome, row.kind) for row in tables.without} == {
        ("UNKNOWN", "stays"),
        ("JOIN", "stays"),
        ("EXCHANGE", "written"),
        ("REUSE", "ends"),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| outcome  |", "| verdict  |"),
        ("| REUSE    |", "| COPIED   |"),
        ("| EXCHANGE |", "| JOIN     |"),
        ("| ends (5)  ", "| moves (5) "),
        ("| stays (11)                    |", "|"),
        ("| the secret    | the session's number              | outcome | the record", "the secret"),
        (
            "| not valid                                                    | REUSE ",
            "|                             | REUSE",
        ),
        ("    | ------------------------------------------------------------ | -------- | --------", "    | x | y | z"),
    ],
)
def test_a_table_of_another_shape_ends_the_build(old: str, new: str) -> None:
    """A picture that lags behind the rules is worse than none."""
    text = rules.__doc__ or ""
    assert old in text
    with pytest.raises(ExtensionError):
        extension("rules_diagram").read_tables(text.replace(old, new, 1))


def test_a_diagram_without_tables_ends_the_build() -> None:
    """Rules that were moved elsewhere are noticed."""
    with pytest.raises(ExtensionError):
        extension("rules_diagram").read_tables("The rules are elsewhere.")


# In Chromium


TOO_WIDE = """() => [...document.querySelectorAll('article *')].filter(one => {
  for (let box = one; box; box = box.parentElement) {
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(box).overflowX)) { return false; }
  }
  return one.getBoundingClientRect().right > innerWidth + 1;
}).map(one => one.tagName + ' ' + one.textContent.slice(0, 40))"""


async def test_no_page_is_wider_than_the_window(site: Site, chromium: Chromium) -> None:
    """Long tables and code scroll in a frame of their own, and no script fails."""
    context = await chromium.new_context()
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in site.pages:
        name = path.relative_to(site.folder).with_suffix("").as_posix()
        if not name.startswith("_modules/"):
            await page.goto(path.as_uri())
            for width in (390, 1280):
                await page.set_viewport_size({"width": width, "height": 900})
                assert await page.evaluate("document.documentElement.scrollWidth") <= width, name
                assert await page.evaluate(TOO_WIDE) == [], name
    assert errors == []
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_diagram_can_be_read_in_light_and_dark(site: Site, chromium: Chromium, scheme: Any) -> None:
    """No text leaves its box or meets another one; screenshots are kept to be looked at."""
    for width in (1280, 390):
        context = await chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = await context.new_page()
        SCREENSHOTS.mkdir(exist_ok=True)
        for name in ("index", "tutorial", "reference/setup", "protocol"):
            await page.goto((site.folder / f"{name}.html").as_uri())
            await page.screenshot(path=SCREENSHOTS / f"docs-{name.replace('/', '-')}-{width}-{scheme}.png")
        diagram = page.locator(".rules-diagram svg")
        assert await diagram.evaluate(COLLISIONS) == []
        text, back = await diagram.evaluate(
            "one => [getComputedStyle(one.querySelector('text')).fill, getComputedStyle(document.body).backgroundColor]"
        )
        assert abs(brightness(text) - brightness(back)) > 128
        await context.close()


COLLISIONS = """svg => {
  const texts = [...svg.querySelectorAll('text')];
  const boxes = texts.map(one => one.getBBox());
  const found = [];
  boxes.forEach((a, i) => {
    if (a.x < 0 || a.x + a.width > svg.viewBox.baseVal.width) { found.push(texts[i].textContent); }
    boxes.slice(i + 1).forEach((b, j) => {
      const beside = a.x + a.width <= b.x || b.x + b.width <= a.x;
      const apart = beside || a.y + a.height - 4 <= b.y || b.y + b.height - 4 <= a.y;
      if (!apart) { found.push(texts[i].textContent + ' / ' + texts[i + 1 + j].textContent); }
    });
    const rect = texts[i].parentElement.querySelector('rect');
    if (rect && a.width > rect.getBBox().width) { found.push(texts[i].textContent); }
  });
  return found;
}"""


def brightness(color: str) -> float:
    """Return how bright a colour of CSS is, from 0 to 255."""
    return sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3


# docs/index.md


async def test_the_lines_of_the_landing_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They sign in, and bring the user back."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL)
    app = run_code(code, "index.md").app

    async def home(request: web.Request) -> web.Response:
        return web.Response(text=str((await aiohttp_session.get_session(request)).get("user")))

    app.router.add_get("/", home)
    async with Browser(app) as browser:
        async with browser.post("/login") as response:
            assert await response.text() == "alice"
        browser.come_back(after=timedelta(days=7))
        async with browser.get("/") as response:
            assert await response.text() == "alice"
