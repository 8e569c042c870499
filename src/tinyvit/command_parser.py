"""A parser of command lines that explains each error in one line: a cause and a remedy."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from tinyvit.errors import RequestError
from tinyvit.text.safe_text import print_error
from tinyvit.urls import is_url, make_url_error

_USAGE_EXIT_CODE = 2

_MESSAGES = (
    (
        r"argument (.+): not allowed with argument (.+)",
        "{0} and {1} cannot be given together",
        "give one of them",
    ),
    (r"argument (.+): expected .*argument.*", "{0} has no value", "give one after it"),
    (
        r"argument (.+): ignored explicit argument '?(.*?)'?",
        "{0} takes no value, and {1} was given",
        "leave the value out",
    ),
    (r"argument (.+): invalid int value: (.+)", "{1} is not a whole number ({0})", "correct it"),
    (r"argument (.+): invalid float value: (.+)", "{1} is not a number ({0})", "correct it"),
    (
        r"ambiguous option: (.+) could match (.+)",
        "{0} is the beginning of several options",
        "give one of {1}",
    ),
    (
        r"the following arguments are required: ([^,]+)",
        "{0} is missing",
        "add it, as in the examples of {help}",
    ),
    (
        r"the following arguments are required: (.+)",
        "{0} are missing",
        "add them, as in the examples of {help}",
    ),
    (r"one of the arguments (.+) is required", "an option is missing", "give one of {0}"),
    (r"argument ([^:]+): (.+)", "{1} ({0})", "correct it; {help} describes it"),
)
"""Each row: a pattern of argparse's message, the cause and the remedy. The first match counts. Any
other message is printed as argparse writes it."""

_INVALID_CHOICE = re.compile(r"argument (.+): invalid choice: (.+?) \(choose from (.+)\)")

_MIN_SIMILARITY = 0.7
"""How similar a known name must be to be suggested for an unknown one, 0 to 1, as `difflib`
computes it. At 0.7, "--formats" suggests "--format", and other words suggest nothing."""

_MAX_MESSAGE_LENGTH = 500
"""Longer messages, in characters, which contain a long value, are printed as argparse writes them.
Matching them would take a time that is not linear in their length."""


class _StoreAction(argparse._StoreAction):
    """Stores a value. An option with several values that is given again adds to the earlier ones.

    argparse's own action would keep only the last values, without a word.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        earlier_values = getattr(namespace, self.dest, self.default)
        if self.nargs in ("+", "*") and earlier_values is not self.default:
            values = [*earlier_values, *values]
        setattr(namespace, self.dest, values)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line on standard error, and whose exit code then is 2.

    The parsers of its subcommands are of this class too. A URL is refused as the value of every
    argument that is a path or has no type. An argument with `type=str` may be a URL. The values of
    an option that takes several (`nargs="+"`) add up if it is given several times.

    Attributes:
        suggest_option: Returns the option that a word without an option belongs to, or None.
    """

    suggest_option: Callable[[str], str | None] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Create a parser.

        Args:
            *arguments: Arguments of `argparse.ArgumentParser`.
            **options: Its keyword arguments.
        """
        super().__init__(*arguments, **options)
        # `add_argument` looks up its parameter `action`, which is None by default.
        self.register("action", None, _StoreAction)

    def parse_known_args(  # type: ignore[override]  # the overloads only differ in the namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse arguments, and refuse those that the parser does not know.

        Args:
            args: The arguments; None for those of the process.
            namespace: Object that gets the values; None for a new one.

        Returns:
            The namespace, and an empty list.
        """
        words = sys.argv[1:] if args is None else list(args)
        # argparse would report a missing option first, although a misspelled one is the reason.
        self._refuse_unknown(word for word in self._list_own_words(words) if self._is_unknown(word))
        result, unknown_words = super().parse_known_args(words, namespace)
        self._refuse_unknown(unknown_words)
        return result, []

    def error(self, message: str) -> NoReturn:
        """Explain an error in one line, and exit with 2.

        Args:
            message: argparse's message.
        """
        if len(message) <= _MAX_MESSAGE_LENGTH:
            message = self._use_first_names(message)
            if match := _INVALID_CHOICE.fullmatch(message):
                self._refuse_choice(*match.groups())
            for pattern, cause, remedy in _MESSAGES:
                if match := re.fullmatch(pattern, message, re.DOTALL):
                    values = match.groups()
                    remedy = remedy.format(*values, help=f"{self.prog} --help")
                    _exit_with_error(RequestError(cause.format(*values), remedy))
        _exit_with_error(RequestError(message, f"see {self.prog} --help"))

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert an argument to its type, after a check that it is no URL if it is a path."""
        if action.type in (None, Path) and not action.choices and is_url(arg_string):
            name = _get_first_name(action)
            _exit_with_error(make_url_error(name, arg_string))
        return super()._get_value(action, arg_string)

    def _use_first_names(self, message: str) -> str:
        """Replace names such as "--target/--format" by the first long one of the option."""
        for action in self._actions:
            if len(action.option_strings) > 1:
                joined_names = "/".join(action.option_strings)
                message = message.replace(joined_names, _get_first_name(action))
        return message

    def _list_own_words(self, words: Sequence[str]) -> Iterable[str]:
        """List the words that this parser interprets, not the parser of a subcommand."""
        if self._subparsers is not None:
            return takewhile(lambda word: word.startswith("-"), words)
        return takewhile(lambda word: word != "--", words)

    def _is_unknown(self, word: str) -> bool:
        """Return whether a word is a long option that this parser does not have."""
        name = word.partition("=")[0]
        return name.startswith("--") and not any(
            option.startswith(name) for option in self._option_string_actions
        )

    def _refuse_unknown(self, words: Iterable[str]) -> None:
        """Exit with an error if there is a word that the parser does not know."""
        word = next(iter(words), None)
        if word is None:
            return
        if word.startswith("-"):
            name = word.partition("=")[0]
            # Without the hyphens, which all options share and which would make them alike.
            names = {option.lstrip("-"): option for option in self._option_string_actions}
            nearest = [
                names[match]
                for match in get_close_matches(name.lstrip("-"), names, n=1, cutoff=_MIN_SIMILARITY)
            ]
            remedy = f"did you mean {nearest[0]}? See" if nearest else "see"
            _exit_with_error(
                RequestError(f"there is no option {name}", f"{remedy} {self.prog} --help")
            )
        option = self.suggest_option(word) if self.suggest_option is not None else None
        remedy = f"use {option}" if option else f"see {self.prog} --help"
        _exit_with_error(RequestError(f"the argument {word} is not expected", remedy))

    def _refuse_choice(self, name: str, value: str, choices: str) -> NoReturn:
        """Exit with an error for a value that is not among the choices of an argument."""
        value = value.strip("'")
        names = [choice.strip(" '") for choice in choices.split(",")]
        nearest = get_close_matches(value, names, n=1)
        hint = f"did you mean {nearest[0]}? The possible values are" if nearest else "use one of"
        cause = f"there is no command {value}" if name == "COMMAND" else f"{name} cannot be {value}"
        _exit_with_error(RequestError(cause, f"{hint} {', '.join(names)}"))


def _get_first_name(action: argparse.Action) -> str:
    """Return the first long name of an option, or the name of a positional argument."""
    names = [name for name in action.option_strings if name.startswith("--")]
    return str([*names, *action.option_strings, action.metavar or action.dest][0])


def _exit_with_error(error: RequestError) -> NoReturn:
    print_error(error)
    sys.exit(_USAGE_EXIT_CODE)
