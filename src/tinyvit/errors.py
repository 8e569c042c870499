"""The errors of this package: each says what went wrong and what to do about it, on one line."""

from __future__ import annotations


class TinyViTError(Exception):
    """Base of every error that this package raises on purpose.

    `cause` says what went wrong, `remedy` what the reader can do; `str(error)` is both, on one line.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause = " ".join(cause.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.cause}: {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.cause, self.remedy))


class MissingDependencyError(TinyViTError):
    """A package of an optional extra is not installed."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingDependencyError:
        """The error for `package`, which `pip install 'tinyvit-edge[extra]'` brings."""
        return cls(f"{package} is not installed", f"pip install 'tinyvit-edge[{extra}]'")


class RequestError(TinyViTError):
    """What was asked for is impossible or contradicts itself."""


class CheckpointError(TinyViTError):
    """A checkpoint cannot be read, or is not the network it is said to be."""


class ArtifactError(TinyViTError):
    """An exported file cannot be opened, run or trusted."""


class ImageError(TinyViTError):
    """A picture cannot be decoded, or not safely."""


def _rebuild(cls: type[TinyViTError], cause: str, remedy: str) -> TinyViTError:
    return cls(cause, remedy)
