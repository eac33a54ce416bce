"""Where text for people goes, and how odd file names are shown there."""

from rich.console import Console


def console(*, is_result: bool = False) -> Console:
    """stderr, or stdout for what a pipe should get; names in brackets are names, not markup."""
    return Console(stderr=not is_result, markup=False, highlight=False, emoji=False)


def print_message(text: str) -> None:
    """One plain line for people, on stderr."""
    console().print(shown(text), soft_wrap=True)


def shown(text: str) -> str:
    """`text` on one line, with a mark for each character a terminal could stumble over."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
