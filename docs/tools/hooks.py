"""Hooks of MkDocs: pages that exist only in the site, and links that lead out of docs/.

mkdocs.yml names this file. The pages are those of the commands (from their parsers), of the
schemas (from the JSON files), and of the files of the repository that are not in docs/: the
examples, the changelog, and the policies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from command_pages import make_command_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from schema_pages import format_schema_page
from site_links import SITE_FILES, make_site_path, rewrite_links

_ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE_SUFFIXES = (
    ".cpp", ".h", ".html", ".ipynb", ".jpg", ".js", ".kt", ".md", ".py", ".sh", ".swift", ".txt",
    ".yml",
)  # fmt: skip
_RECORDS = ("lab-notes/", "results/", "CHANGELOG.md")
"""Pages that a search lists after the others."""
_RECORDS_BOOST = 0.2
_BUILT_FOLDERS = {"node_modules", "dist", "public"}
"""Folders in the examples that git ignores."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of the commands to the navigation, where it has an entry without pages.

    Args:
        config: The settings of the site.
    """
    pages = make_command_pages(_ROOT / "setup.cfg")
    config.extra["generated_pages"] = {page.path: page.text for page in pages}
    _fill_entry(config.nav or [], "Commands", _make_navigation(pages))
    for path in sorted((_ROOT / "docs" / "reference" / "schemas").glob("*.schema.json")):
        name = path.name.partition(".")[0]
        schema = json.loads(path.read_text(encoding="utf-8"))
        page = f"reference/schemas/{name}.md"
        config.extra["generated_pages"][page] = format_schema_page(name, schema)
    return config


def _make_navigation(pages: list[Any]) -> list[Any]:
    """Return the entries of the navigation: a list for each command with subcommands."""
    entries: list[Any] = []
    folders: dict[tuple[str, ...], list[Any]] = {(): entries}
    for page in pages:
        parent = folders[page.words[:-1]]
        if page.path.endswith("index.md"):
            section = folders[page.words] = entries if not page.words else []
            section.append(page.path)
            if page.words:
                parent.append({" ".join(page.words): section})
        else:
            parent.append(page.path)
    return entries


def _fill_entry(navigation: list[Any], title: str, entries: list[Any]) -> None:
    """Set the pages of the entry with this title, wherever it is."""
    for item in navigation:
        for name, content in item.items() if isinstance(item, dict) else ():
            if name == title:
                item[name] = entries
            elif isinstance(content, list):
                _fill_entry(content, title, entries)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files of the repository that are not in docs/.

    Args:
        files: The files of docs/.
        config: The settings of the site.
    """
    for path, text in config.extra["generated_pages"].items():
        files.append(File.generated(config, path, content=text))
    paths = {make_site_path(path): path for path in _list_repository_files()}
    config.extra["repository_paths"] = paths
    for site_path, path in paths.items():
        files.append(File.generated(config, site_path, abs_src_path=str(_ROOT / path)))
    return files


def _list_repository_files() -> list[str]:
    """Return the paths of the files outside docs/ that the site contains."""
    files = [path.relative_to(_ROOT) for path in sorted((_ROOT / "examples").rglob("*.*"))]
    examples = [
        path.as_posix()
        for path in files
        if path.suffix in _EXAMPLE_SUFFIXES and not _BUILT_FOLDERS.intersection(path.parts)
    ]
    return [*SITE_FILES, *examples]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to the pages of the site.

    Args:
        markdown: The text of the page.
        page: The page.
        config: The settings of the site.
        files: All files of the site.
    """
    path = page.file.src_uri
    if path.startswith(_RECORDS):
        page.meta["search"] = {"boost": _RECORDS_BOOST}
    if path in config.extra["generated_pages"]:
        return markdown
    return rewrite_links(markdown, config.extra["repository_paths"].get(path, f"docs/{path}"))
