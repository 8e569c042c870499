"""Checks out earlier states of the repository, beside the files of the developer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.processes.python_process import read_last_line

SHORT_HASH_DIGITS = 10
"""Number of digits with which a commit is shown."""
_CODE_FOLDERS = ("bench", "distill", "export", "quant", "runtimes", "src")
"""Folders of the package. Each state is compiled before it is measured."""
_GIT_LIMIT_S = 600


def run_git(root: Path, *arguments: str) -> str:
    """Run git, without hooks.

    Args:
        root: The folder in which git runs.
        *arguments: The arguments of git.

    Returns:
        What git printed on standard output, without spaces around it.

    Raises:
        MissingDependencyError: git is not installed.
        RequestError: git fails.
    """
    # A hook of git, from which the study may run, names its own repository in such variables.
    environment = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        process = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, timeout=_GIT_LIMIT_S
        )
    except FileNotFoundError as error:
        raise MissingDependencyError("git is not installed", "install git") from error
    except subprocess.TimeoutExpired as error:
        raise RequestError(
            f"git {arguments[0]} took more than {_GIT_LIMIT_S} s", "try again"
        ) from error
    if process.returncode:
        message = read_last_line(process.stderr, if_empty=f"exit code {process.returncode}")
        raise RequestError(f"git {arguments[0]} failed", message)
    return process.stdout.decode("utf-8", "replace").strip()


class History:
    """The earlier states of a repository.

    Attributes:
        root: The working tree of the developer.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        """Open the repository.

        Args:
            root: The working tree of the developer.
            folder: A temporary folder for the working trees of earlier commits.

        Raises:
            MissingDependencyError: git is not installed.
            RequestError: The folder is not the root of a repository.
        """
        self.root = root
        self._folder = folder
        self._trees: dict[str, Path] = {}
        try:
            found = run_git(root, "rev-parse", "--show-toplevel")
        except RequestError as error:
            raise _explain_missing_history(root) from error
        if Path(found).resolve() != root.resolve():
            raise _explain_missing_history(root)

    def describe_present(self) -> str:
        """Return the present commit, and whether files differ from it."""
        commit = run_git(self.root, "rev-parse", "HEAD")[:SHORT_HASH_DIGITS]
        has_changes = run_git(self.root, "status", "--porcelain", "--untracked-files=no")
        return f"{commit} with changes" if has_changes else commit

    def find_commit(self, name: str) -> str:
        """Return the full hash of a commit.

        Args:
            name: A hash; "^" after it means its parent.

        Raises:
            RequestError: The clone does not have the commit.
        """
        try:
            return run_git(self.root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        except RequestError as error:
            is_shallow = run_git(self.root, "rev-parse", "--is-shallow-repository") == "true"
            raise RequestError(
                f"this clone does not have the commit {name}"
                + (", because it is shallow" if is_shallow else ""),
                "run git fetch --unshallow" if is_shallow else "clone the project completely",
            ) from error

    def check_out(self, commit: str) -> Path:
        """Return the folder with the files of a commit, which is made the first time.

        Args:
            commit: The full hash of the commit.
        """
        if commit not in self._trees:
            path = self._folder / commit[:SHORT_HASH_DIGITS]
            self._trees[commit] = path  # It is removed even if it is incomplete.
            run_git(self.root, "worktree", "add", "--detach", str(path), commit)
            compile_code(path)
        return self._trees[commit]

    def remove_trees(self) -> None:
        """Remove every folder that was made, and what git knows of it."""
        for path in self._trees.values():
            try:
                run_git(self.root, "worktree", "remove", "--force", str(path))
            except RequestError:  # git did not finish making it
                shutil.rmtree(path, ignore_errors=True)
        run_git(self.root, "worktree", "prune")
        self._trees.clear()


@contextmanager
def open_history(root: Path) -> Iterator[History]:
    """Open a repository, and remove the earlier states at the end, whatever happens.

    Args:
        root: The working tree of the developer.

    Yields:
        The earlier states.

    Raises:
        MissingDependencyError: git is not installed.
        RequestError: The folder is not the root of a repository.
    """
    with tempfile.TemporaryDirectory(prefix="before-after-") as folder:
        history = History(root, Path(folder))
        try:
            yield history
        finally:
            history.remove_trees()


def compile_code(tree: Path) -> None:
    """Compile the modules of a state, so that no measurement includes that.

    Args:
        tree: Folder of the state.
    """
    folders = [str(tree / name) for name in _CODE_FOLDERS if (tree / name).is_dir()]
    command = [sys.executable, "-I", "-m", "compileall", "-q", *folders]
    subprocess.run(command, capture_output=True, timeout=_GIT_LIMIT_S)


def _explain_missing_history(root: Path) -> RequestError:
    return RequestError(
        f"{root} is not a clone of the project, so it has no earlier states",
        "clone the project with git, and run the study there",
    )
