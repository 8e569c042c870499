"""The errors of this package. Each states a cause and a remedy on one line."""

from __future__ import annotations


class TinyViTError(Exception):
    """Base class of every error that this package raises on purpose.

    `str(error)` is the cause, a colon and the remedy, on one line.

    Attributes:
        cause: What went wrong, on one line.
        remedy: What the user can do about it, on one line.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        """Create the error from its two parts.

        Args:
            cause: What went wrong. Line breaks become spaces.
            remedy: What the user can do about it. Line breaks become spaces.
        """
        self.cause = " ".join(cause.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.cause}: {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call the class with the one message that Exception keeps.
        return (_rebuild, (type(self), self.cause, self.remedy))


class MissingDependencyError(TinyViTError):
    """A package that an optional extra provides is not installed."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingDependencyError:
        """Create the error for a package of this project's extras.

        Args:
            package: Name of the missing package.
            extra: The extra of tinyvit-edge that installs it.

        Returns:
            An error whose remedy is the pip command to run.
        """
        return cls(f"{package} is not installed", f"pip install 'tinyvit-edge[{extra}]'")


class RequestError(TinyViTError):
    """A request is impossible, contradicts itself, or names something that does not exist."""


class CheckpointError(TinyViTError):
    """A checkpoint cannot be read, or is not the network that it claims to be."""


class ArtifactError(TinyViTError):
    """An exported file cannot be opened, run or trusted."""


class ImageError(TinyViTError):
    """An image cannot be decoded, or cannot be decoded safely."""


def _rebuild(cls: type[TinyViTError], cause: str, remedy: str) -> TinyViTError:
    """Create an error again when it is unpickled, as when it crosses a process boundary."""
    return cls(cause, remedy)
