"""Gives each target of an export the options that belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tinyvit.errors import RequestError
from tinyvit.export.targets import Target, get_target, target_names


def check_option_owners(options: Mapping[str, str], targets: Mapping[str, Target]) -> None:
    """Refuse an option that belongs to none of the requested targets.

    Args:
        options: Name of each option that was given -> its value.
        targets: The requested targets by name.

    Raises:
        RequestError: No target has the option, or only targets that were not requested.
    """
    for name in options:
        owners = [
            target_name
            for target_name in target_names()
            if name in _option_names(get_target(target_name))
        ]
        flag = f"--{name.replace('_', '-')}"
        if not owners:
            raise RequestError(f"no target has an option {flag}", "see tinyvit-export --help")
        if not targets.keys() & set(owners):
            raise RequestError(
                f"{flag} is an option of --target {' or '.join(owners)}",
                f"leave it out for {', '.join(targets)}",
            )


def with_own_options(
    target: Target, options: Mapping[str, str], targets: Iterable[Target]
) -> Target:
    """Return the target with its own options set; options of other targets are ignored.

    So are names in a list, such as chips of --soc, that only another requested target knows.

    Args:
        target: One of the requested targets.
        options: Name of each option that was given -> its value.
        targets: All requested targets.

    Returns:
        The target; `target` itself if none of its options was given.

    Raises:
        RequestError: A value is impossible.
    """
    own_options = {}
    for option in target.options:
        if option.name not in options:
            continue
        value = options[option.name]
        others = [
            name
            for other in targets
            if other is not target
            for other_option in other.options
            if other_option.name == option.name
            for name in other_option.names
        ]
        words = [word.strip() for word in value.split(",")]
        own_words = [word for word in words if word.lower() not in others]
        if len(own_words) == len(words):
            own_options[option.name] = value
        elif own_words:
            own_options[option.name] = ",".join(own_words)
    return target.with_options(own_options) if own_options else target


def _option_names(target: Target) -> set[str]:
    return {option.name for option in target.options}
