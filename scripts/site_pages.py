"""Hooks for MkDocs: generates pages from the code, and runs notebooks.

MkDocs calls the functions whose names begin with `on_` (`hooks` in mkdocs.yml). The page of the command line is
generated from the commands, the pages of the Python reference from the packages in src/, and each notebook in docs/ is
run from top to bottom: if a cell fails, so does the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from typer.testing import CliRunner

from pneumoscope.cli.main import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "pneumoscope"

NO_REFERENCE = ("cli", "__main__")
"""The parts of the package without a page in the reference; the command line has its own page."""

COLUMNS = 76
"""The width of the terminal for the commands' help."""

COPIED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Documents in the root of the repository, and their pages."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace folders in the navigation by their pages."""
    folders = {
        "reference/api/": sorted(api_pages()),
        "decisions/": [page.relative_to(DOCS).as_posix() for page in sorted(DOCS.glob("decisions/*.md"))],
    }
    # `index.md` comes first, because it opens for the folder itself.
    pages = {name: sorted(found, key=lambda page: not page.endswith("index.md")) for name, found in folders.items()}
    config.nav = filled(config.nav, pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages: commands, packages, documents of the root, notebooks."""
    made: dict[str, str | bytes] = {"reference/command-line.md": command_line(), **api_pages()}
    for name, page in COPIED.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        made[page] = re.sub(r"\]\((\w+\.md)\)", lambda link: f"]({COPIED.get(link[1], link[1])})", text)
    for notebook in sorted(DOCS.rglob("*.ipynb")):
        made |= run(notebook)
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def filled(nav: Any, folders: dict[str, list[str]]) -> Any:  # noqa: ANN401 - what YAML holds
    """Replace the name of a folder by the list of its pages, anywhere in a navigation.

    Example:
        >>> filled(["index.md", {"Decisions": "decisions/"}], {"decisions/": ["decisions/0001.md"]})
        ['index.md', {'Decisions': ['decisions/0001.md']}]
    """
    if isinstance(nav, list):
        return [filled(entry, folders) for entry in nav]
    if isinstance(nav, dict):
        return {title: filled(entry, folders) for title, entry in nav.items()}
    return folders.get(nav, nav)


def api_pages() -> dict[str, str]:
    """Return a page for each package, on which mkdocstrings renders the docstrings of its modules.

    Returns:
        The Markdown of each page, by its place below docs/.

    Example:
        >>> "::: pneumoscope.inference.detector" in api_pages()["reference/api/inference.md"]
        True
    """
    pages = {}
    for place in sorted(PACKAGE.iterdir()):
        modules = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        if place.stem in NO_REFERENCE or place.stem == "__init__" or not modules or modules[0].suffix != ".py":
            continue
        names = [".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts) for module in modules]
        listed = [f"::: {name}" for name in names if not name.endswith("__init__")]
        about = [summary(place)] if place.is_dir() else []
        pages[f"reference/api/{place.stem}.md"] = "\n\n".join([f"# pneumoscope.{place.stem}", *about, *listed]) + "\n"
    return pages


def summary(package: Path) -> str:
    """Return the docstring of a package.

    Example:
        >>> summary(PACKAGE / "metrics").endswith(".")
        True
    """
    found = re.match(r'\s*"""(.*?)"""', (package / "__init__.py").read_text(encoding="utf-8"), re.DOTALL)
    return found[1].strip() if found else ""


def command_line() -> str:
    """Return the page of the command line with each command's `--help`.

    Example:
        >>> "## pneumoscope predict" in command_line()
        True
    """
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    parts = ["# Command line", "This page is what the program's own `--help` says.", helped()]
    for name in names:
        parts += [f"## pneumoscope {name}", helped(name)]
    return "\n\n".join(parts) + "\n"


def helped(*command: str) -> str:
    """Return the help of a command, as wide as a page of the site."""
    plain = {"COLUMNS": str(COLUMNS), "TERMINAL_WIDTH": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    asked = CliRunner().invoke(app, [*command, "--help"], env=plain, prog_name="pneumoscope", catch_exceptions=False)
    lines = [line.rstrip() for line in asked.stdout.strip("\n").splitlines()]
    return "```text\n" + "\n".join(lines) + "\n```"


def run(notebook: Path) -> dict[str, str | bytes]:
    """Run a notebook in its folder, and return a page with all its output.

    Returns:
        The page and its pictures, by their places below docs/.

    Raises:
        CellExecutionError: a cell failed.
    """
    cells = nbformat.read(notebook, as_version=4)
    NotebookClient(cells, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    text, made = MarkdownExporter().from_notebook_node(cells)
    place = notebook.relative_to(DOCS).parent
    pictures: dict[str, str | bytes] = {}
    for name, data in made["outputs"].items():
        renamed = f"{notebook.stem}-{name}"
        text = text.replace(f"({name})", f"({renamed})")
        pictures[(place / renamed).as_posix()] = data
    return {(place / f"{notebook.stem}.md").as_posix(): text, **pictures}
