"""Leads links between files of the repository to the pages of the site.

In the repository, `docs/` is one folder of many, and a page links to `../../SECURITY.md` or
`../../examples/web/README.md`. The site contains such files too, but `docs/` is its root and the
other files are in it. So a link that leaves `docs/` has one step too many.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath

SITE_FILES = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
"""Files at the root of the repository that the site contains."""

_LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(\))")
_EXAMPLE_PAGE = re.compile(r"^(examples/[^/]+)/README\.md$")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def make_site_path(repository_path: str) -> str:
    """Return the path of a file in the site's folder of sources.

    Args:
        repository_path: Path of a file in the repository, such as "docs/index.md".

    Returns:
        The path. The page of an example is beside the folder of its files, where its name cannot be
        that of one of them. A file in HTML is shown as text.
    """
    path = _EXAMPLE_PAGE.sub(r"\1.md", repository_path.removeprefix("docs/"))
    return f"{path}.txt" if path.endswith(".html") else path


def rewrite_links(text: str, repository_path: str) -> str:
    """Change the relative links of a page so that they are right in the site.

    Args:
        text: A page in Markdown.
        repository_path: Path of the page in the repository.

    Returns:
        The page, whose links are relative to its place in the site. Code stays as it is.
    """
    folder = posixpath.dirname(repository_path)
    site_folder = posixpath.dirname(make_site_path(repository_path)) or "."

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        if PurePosixPath(target).parts[:1] == ("examples",) and not PurePosixPath(target).suffix:
            target = f"{target}/README.md"
        link = posixpath.relpath(make_site_path(target), site_folder)
        return f"{match[1]}{link}{match[3] or ''}{match[4]}"

    parts = _CODE.split(text)
    parts[::2] = [_LINK.sub(rewrite, part) for part in parts[::2]]
    return "".join(parts)
