"""Hooks of MkDocs: the pages of files outside docs/, and links that lead out of docs/.

mkdocs.yml names this file. The files outside docs/ that the site contains are the examples, the
changelog, and the policies.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that are not in docs/.

    Args:
        files: The files of docs/.
        config: The settings of the site.
    """
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
    return rewrite_links(markdown, config.extra["repository_paths"].get(path, f"docs/{path}"))
