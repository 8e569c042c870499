"""Reads the names of chips in the option --soc of targets that compile for named chips."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tinyvit.errors import RequestError

SOC_OPTION = "soc"
"""Name of the option."""


def parse_chip_names(
    values: Mapping[str, str], known_names: Collection[str], vendor: str, alternative: str = ""
) -> tuple[str, ...]:
    """Read the names of the chips to compile for.

    Args:
        values: Name of each option that was given -> its value as text.
        known_names: Names of the vendor's chips, in lower case.
        vendor: Name of the vendor, for the error message.
        alternative: What else the user can do, for the error message, such as ", or leave it out".

    Returns:
        The names in lower case, each once, in the order of the option; nothing if it was not given.

    Raises:
        RequestError: The option names no chip, or one that is not known.
    """
    words = values.get(SOC_OPTION, "").split(",")
    names = [word.strip() for word in words if word.strip()]
    if SOC_OPTION in values and not names:
        raise RequestError("--soc names no chip", f"use one or more of {', '.join(known_names)}")
    for name in names:
        if name.lower() not in known_names:
            raise RequestError(
                f"--soc {name} is not a chip of {vendor} that is known here",
                f"use one or more of {', '.join(known_names)}, separated by commas{alternative}",
            )
    return tuple(dict.fromkeys(name.lower() for name in names))
