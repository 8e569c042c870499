"""Checks the links of the built site: every page, image, file and heading must exist.

    mkdocs build --strict && python docs/tools/check_links.py site

MkDocs checks the links in Markdown. This also covers links in HTML and in generated pages. Links to
other sites are not followed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _LinkParser(HTMLParser):
    """Collects the links and the targets of links in a page.

    Attributes:
        links: Values of `href` and `src`.
        anchors: Values of `id` and `name`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the links and the names of an element."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def find_broken_links(site: Path) -> Iterator[str]:
    """Iterate over the links that lead nowhere.

    Args:
        site: Folder of the built site.

    Yields:
        A page and its link, such as "index.html: images/missing.png".
    """
    pages = {path.resolve(): _parse(path) for path in sorted(site.rglob("*.html"))}
    root = site.resolve()
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            anchors = pages[target].anchors if target in pages else set()
            has_anchor = target not in pages or parts.fragment in {"", "__skip", *anchors}
            if not target.is_file() or not has_anchor or root not in target.parents:
                yield f"{path.relative_to(root)}: {link}"


def _parse(path: Path) -> _LinkParser:
    """Read the links and the targets of a page."""
    parser = _LinkParser()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description="Check the links of the built site.")
    parser.add_argument("site", type=Path, help="Folder of the site.")
    site = parser.parse_args().site
    if not (site / "index.html").is_file():
        print(f"error: {site} has no index.html: run mkdocs build first", file=sys.stderr)
        return 1
    broken = list(find_broken_links(site))
    for link in broken:
        print(link)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
