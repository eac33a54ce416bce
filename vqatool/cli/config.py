"""`vqatool config`: defaults of options from a file or the environment, and what holds now.

A value on the command line counts first, then one in the environment, then one in the file, then
the option's own default.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from vqatool.errors import ConfigError

FILE = Path("vqatool.toml")
PROJECT = Path("pyproject.toml")
FILE_VARIABLE = "VQATOOL_CONFIG"

_PREFIX = "VQATOOL_"

_OTHERS = frozenset(
    {
        FILE_VARIABLE,
        "VQATOOL_FFMPEG",
        # of the tests and checks of this project
        "VQATOOL_CHROMIUM",
        "VQATOOL_COVERAGE",
        "VQATOOL_EXAMPLES",
        "VQATOOL_FUZZ",
        "VQATOOL_NETFLIX_FILES",
    }
)
"""Variables that set no option."""

_SHARED = frozenset({"help", "verbose", "quiet"})
"""Options of every command that a file does not set."""

DefaultMap = dict[str, dict[str, Any]]


def name_variables(command: click.Command) -> None:
    """Let each option of a command be set by a variable such as VQATOOL_SCORE_SEGMENT."""
    for name, option in _settable(command):
        option.envvar = f"{_PREFIX}{command.name}_{name}".upper().replace("-", "_")


def unknown_variables(commands: Mapping[str, click.Command]) -> Iterator[str]:
    """A sentence on each variable of the environment that looks like ours and sets nothing."""
    options = [option for command in commands.values() for _, option in _settable(command)]
    known = {str(option.envvar) for option in options if option.envvar} | _OTHERS
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and name not in known:
            (nearest,) = difflib.get_close_matches(name, known, n=1, cutoff=0)
            yield f"the variable {name} sets nothing: the nearest one that does is {nearest}"


def config_file() -> Path | None:
    """The file in use: the one that $VQATOOL_CONFIG names, else one in this folder; None: none.

    In this folder it is `vqatool.toml`, or `pyproject.toml` if it has a table [tool.vqatool].

    Raises:
        ConfigError: the file that the variable names is missing, or one cannot be read.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise ConfigError(f"{FILE_VARIABLE} names {named}, which is not a file")
        return Path(named)
    if FILE.is_file():
        return FILE
    return PROJECT if PROJECT.is_file() and _content(PROJECT) else None


def read_defaults(path: Path, commands: Mapping[str, click.Command]) -> DefaultMap:
    """The defaults in a file, by command and by the names that click has for the options.

    Args:
        path: a table for each command, with the options' long names without dashes in front. In a
            file named `pyproject.toml` these tables lie in [tool.vqatool].
        commands: the program's, by name.

    Raises:
        ConfigError: the file cannot be read, or names a command or an option that there is not.
    """
    defaults: DefaultMap = {}
    for name, table in _content(path).items():
        if name not in commands or not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {name!r} is not a command: tables are named {', '.join(commands)}"
            )
        options = dict(_settable(commands[name]))
        for key, value in table.items():
            option = options.get(key.replace("_", "-"))
            if option is None:
                raise ConfigError(
                    f"{path}: {name}.{key} is not an option: {name} has {', '.join(options)}"
                )
            assert option.name
            given = _as_typed(option, value)
            if given is None:
                raise ConfigError(
                    f"{path}: {name}.{key} is {value!r}: give what the command line takes: "
                    + ("true or false" if option.is_flag else "text, a number or a list of them")
                )
            defaults.setdefault(name, {})[option.name] = given
    return defaults


def _as_typed(option: click.Option, value: Any) -> Any:
    """A value of TOML as the command line would have it, which the option converts; None: no."""
    if option.is_flag:
        return value if isinstance(value, bool) else None
    several = value if isinstance(value, list) else [value]
    if any(isinstance(each, bool) or not isinstance(each, str | int | float) for each in several):
        return None
    texts = [str(each) for each in several]
    return texts if option.multiple or option.nargs != 1 else ",".join(texts)


@click.command()
@click.option("--all", "is_all", is_flag=True, help="Show options with their own default, too.")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def config(ctx: click.Context, is_all: bool, names: tuple[str, ...]) -> None:
    """Show which defaults hold, and where each comes from.

    Defaults of options come from vqatool.toml, or from [tool.vqatool] in pyproject.toml, in the
    current folder (or from the file that $VQATOOL_CONFIG names), with a table for each command;
    and from variables such as VQATOOL_SCORE_DISPLAY, which count more. A value that the command
    would refuse is shown as invalid, with the reason.

    \b
    Example:
        vqatool config
        vqatool config score --all
    """
    from vqatool.terminal import print_note

    program = ctx.find_root().command
    assert isinstance(program, click.Group)
    unknown = [name for name in names if name not in program.commands]
    if unknown:
        raise click.UsageError(f"{unknown[0]!r} is not a command")
    for name, command in program.commands.items():
        if names and name not in names:
            continue
        for value in _values(command, ctx.find_root().default_map or {}):
            if is_all or value.origin != _OWN:
                fault = value.fault and f", invalid: {value.fault}"
                click.echo(f"{name} --{value.option} {value.text}  # {value.origin}{fault}")
    origin = config_file()
    print_note(f"file: {origin}" if origin else f"no file {FILE} here")


_OWN = "its own default"


class _Value(NamedTuple):
    option: str
    text: str
    origin: str
    fault: str = ""  # why the command would refuse it


def _values(command: click.Command, defaults: Mapping[str, Any]) -> Iterator[_Value]:
    """The value of each option of a command if the command line does not have it."""
    in_file = defaults.get(command.name or "", {})
    for name, option in _settable(command):
        variable = str(option.envvar)
        if os.environ.get(variable):
            fault = _fault(command, option, option.value_from_envvar(click.Context(command)))
            yield _Value(name, os.environ[variable], f"${variable}", fault)
        elif option.name in in_file:
            value = in_file[option.name]
            fault = _fault(command, option, value)
            yield _Value(name, _text(value), str(config_file()), fault)
        else:
            yield _Value(name, _text(option.to_info_dict()["default"]), _OWN)


def _fault(command: click.Command, option: click.Option, value: Any) -> str:
    """Why a command would refuse a value of an option; empty: it takes it."""
    try:
        option.type_cast_value(click.Context(command), value)
    except click.BadParameter as error:
        return error.message.rstrip(".")
    return ""


def _text(value: Any) -> str:
    if value is None or (isinstance(value, list | tuple) and not value):
        return "(none)"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _settable(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """The options of a command that have a default, by long name without dashes in front."""
    for option in command.params:
        if isinstance(option, click.Option):
            name = next((each[2:] for each in option.opts if each.startswith("--")), "")
            if name and name not in _SHARED:
                yield name, option


def _content(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    if path.name != PROJECT.name:
        return content
    table = content.get("tool", {})
    found = table.get("vqatool", {}) if isinstance(table, dict) else {}
    return found if isinstance(found, dict) else {}
