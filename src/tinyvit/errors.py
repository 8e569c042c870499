"""The exceptions of this package. The message of each is one line: a cause and a remedy."""

from __future__ import annotations

from tinyvit.text.safe_text import escape_text

_MAX_CHARACTERS = 2000
"""Number of characters to which a cause or a remedy is shortened. A hostile file can contain a name
of any length."""


class TinyViTError(Exception):
    """Base class of every error that this package raises on purpose.

    `str(error)` is the cause, a colon and the remedy, on one line. Control characters in them are
    escaped, because programs print exceptions as they are, and a hostile file may have caused this
    one.

    Attributes:
        cause: What went wrong, on one line.
        remedy: What the user can do about it, on one line.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        """Create the error from its two parts.

        Args:
            cause: What went wrong. Line breaks become spaces, other control characters are escaped
                with `escape_text`, and a long text is shortened.
            remedy: What the user can do about it, treated in the same way.
        """
        self.cause = _make_line(cause)
        self.remedy = _make_line(remedy)
        super().__init__(f"{self.cause}: {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        # The default implementation would pass one argument, the message, to the constructor.
        return (_rebuild_error, (type(self), self.cause, self.remedy))


class MissingDependencyError(TinyViTError):
    """A Python package that an extra of tinyvit-edge installs is missing."""

    @classmethod
    def for_package(cls, package: str, extra: str) -> MissingDependencyError:
        """Create the error for a missing package.

        Args:
            package: Name of the missing package.
            extra: Extra of tinyvit-edge that installs the package, such as "export".

        Returns:
            An error whose remedy is the command that installs the extra in the way in which this
            package was installed, for example from a clone or from a wheel.
        """
        from tinyvit.install_command import format_extra_command

        return cls(f"{package} is not installed", format_extra_command(extra))

    @classmethod
    def for_engine(cls, package: str, extra: str) -> MissingDependencyError:
        """Create the error for an engine that is missing where an artifact is to run.

        Args:
            package: Name of the missing package.
            extra: Extra of tinyvit-edge that installs the package, and what exports need besides.

        Returns:
            An error whose remedy is the command that installs the package alone.
        """
        from tinyvit.install_command import format_requirement_command

        return cls(f"{package} is not installed", format_requirement_command(package, extra))


class RequestError(TinyViTError):
    """An option or argument is impossible, contradicts another, or names nothing that exists."""


class CheckpointError(TinyViTError):
    """A checkpoint cannot be read, or does not contain the network that it should contain."""


class ArtifactError(TinyViTError):
    """An exported file cannot be opened, run or trusted."""


class ImageError(TinyViTError):
    """An image cannot be decoded, or cannot be decoded safely."""


def _make_line(text: str) -> str:
    """Return a text on one line, with spaces for line breaks, escaped and shortened."""
    if len(text) > _MAX_CHARACTERS:
        # A long name is often followed by what is wrong with it.
        half = _MAX_CHARACTERS // 2
        text = f"{text[:half]}...{text[-half:]}"
    return escape_text(" ".join(text.split()))


def _rebuild_error(cls: type[TinyViTError], cause: str, remedy: str) -> TinyViTError:
    """Create an error from its parts when it is unpickled, for example in another process."""
    return cls(cause, remedy)
