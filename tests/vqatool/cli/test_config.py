"""Defaults of options from files and the environment, and the completion of shells."""

import re
from pathlib import Path

import click
import pytest

from tests.vqatool.program import vqatool
from vqatool.cli import cli
from vqatool.cli.config import unknown_variables

FILE = """
[score]
display = "1280x720"
segment = 5
include = ["*.mp4", "*.mkv"]
fail_under = 70
fail-on = ["error", "bad"]
force = true

[ladder]
codec = "libx265"
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shown(*arguments: str) -> list[str]:
    done = vqatool("config", *arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["vqatool.toml", "pyproject.toml", "other.toml"])
def test_a_file_sets_defaults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FILE
    if name == "pyproject.toml":
        text = f"[project]\nname = 'x'\n{FILE.replace('[', '[tool.vqatool.', 1)}"
        text = text.replace("\n[ladder]", "\n[tool.vqatool.ladder]")
    if name == "other.toml":
        monkeypatch.setenv("VQATOOL_CONFIG", name)
    Path(name).write_text(text)
    assert shown() == [
        f"ladder --codec libx265  # {name}",
        f"score --include *.mp4 *.mkv  # {name}",
        f"score --display 1280x720  # {name}",
        f"score --segment 5  # {name}",
        f"score --fail-under 70  # {name}",
        f"score --fail-on error,bad  # {name}",
        f"score --force True  # {name}",
    ]


def test_the_command_line_counts_more_than_a_variable_and_that_more_than_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(cli.commands["score"], "callback", lambda **given: seen.append(given))
    Path("vqatool.toml").write_text(FILE)
    arguments = ["score", "x.mp4", "--display", "native"]
    monkeypatch.setenv("VQATOOL_SCORE_SEGMENT", "4")
    monkeypatch.setenv("VQATOOL_SCORE_DISPLAY", "640x360")
    assert vqatool(*arguments).exit_code == 0
    (given,) = seen
    assert isinstance(given, dict)
    assert (given["display"], given["segment_s"], given["fail_under"]) == (None, 4.0, 70.0)
    assert given["include"] == ("*.mp4", "*.mkv")
    assert (given["fail_on"], given["force"]) == (("error", "bad"), True)
    assert shown("score")[1:3] == [
        "score --display 640x360  # $VQATOOL_SCORE_DISPLAY",
        "score --segment 4  # $VQATOOL_SCORE_SEGMENT",
    ]


def test_one_text_is_one_value_of_an_option_that_takes_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []
    monkeypatch.setattr(cli.commands["ladder"], "callback", lambda **given: seen.append(given))
    (tmp_path / "x.mp4").touch()
    Path("vqatool.toml").write_text(FILE)
    assert vqatool("ladder", "x.mp4").exit_code == 0
    assert seen[0]["codecs"] == ("libx265",)


def test_every_option_is_shown_with_its_own_default() -> None:
    lines = shown("score", "--all")
    assert "score --segment 2.5  # its own default" in lines
    assert "score --model default  # its own default" in lines
    options = {line.split()[1] for line in lines}
    assert {"--out", "--json", "--fail-under", "--timeout"} <= options
    assert options.isdisjoint({"--help", "--quiet", "--verbose"})
    assert shown() == []


def test_no_two_options_have_one_variable() -> None:
    variables = [
        str(option.envvar)
        for command in cli.commands.values()
        for option in command.params
        if isinstance(option, click.Option) and option.envvar
    ]
    assert len(variables) == len(set(variables))
    assert {"VQATOOL_SCORE_FAIL_UNDER", "VQATOOL_TRAIN_EPOCHS"} <= set(variables)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[scoer]\ndisplay = 'native'", "'scoer' is not a command"),
        ("score = 3", "'score' is not a command"),
        ("[score]\ndisplya = 'native'", "score.displya is not an option"),
        ("[score", "cannot be read as TOML"),
        ("[score]\nsegment = 'long'", "'long' is not a valid float"),
        ("[score]\ndisplay = 3", "'3' is neither a size"),
        ("[score]\ndisplay = true", "score.display is True"),
        ("[score]\ndisplay = {x = 1}", "score.display is {'x': 1}"),
        (
            "[score]\nforce = 'yes'",
            "score.force is 'yes': give what",
        ),
        ("[score]\nfail-on = ['error', 'worse']", "'error,worse' is not a list of codes"),
        ("[score]\nsegment = 2026-01-01", "score.segment is datetime.date"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(text: str, words: str) -> None:
    Path("vqatool.toml").write_text(text)
    done = vqatool("score", "x.mp4")
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_file_that_the_environment_names_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQATOOL_CONFIG", "gone.toml")
    done = vqatool("score", "x.mp4")
    assert (done.exit_code, "gone.toml" in done.stderr) == (2, True)


def test_a_variable_that_sets_nothing_is_named_with_the_nearest_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VQATOOL_SCORE_SEGMNT", "4")
    monkeypatch.setenv("VQATOOL_SOCRE_DISPLAY", "native")
    monkeypatch.setenv("VQATOOL_FFMPEG", "ffmpeg")  # is no option
    done = vqatool("config")
    assert done.stderr.splitlines()[:-1] == [
        f"warning: the variable VQATOOL_{wrong} sets nothing: the nearest one that does is "
        f"VQATOOL_{right}"
        for wrong, right in (("SCORE_SEGMNT", "SCORE_SEGMENT"), ("SOCRE_DISPLAY", "SCORE_DISPLAY"))
    ]
    assert vqatool("config", "-q").stderr == ""


def test_variables_of_the_tests_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [path.read_text() for path in Path(__file__).parents[2].rglob("*.py")]
    pattern = re.compile(r"environ(?:\.get\(|\[)\"(VQATOOL_\w+)\"|= \"(VQATOOL_FUZZ)\"")
    names = {name for text in texts for pair in pattern.findall(text) for name in pair if name}
    assert {"VQATOOL_CHROMIUM", "VQATOOL_FUZZ"} <= names
    for name in names:
        monkeypatch.setenv(name, "x")
    assert list(unknown_variables(cli.commands)) == []


def test_a_value_that_a_command_would_refuse_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("vqatool.toml").write_text("[score]\nsegment = 'long'\nfail-on = ['error', 'worse']\n")
    monkeypatch.setenv("VQATOOL_SCORE_JOBS", "0")
    monkeypatch.setenv("VQATOOL_SCORE_FORCE", "perhaps")
    monkeypatch.setenv("VQATOOL_SCORE_DISPLAY", "native")
    lines = {line.split()[1]: line.partition("  # ")[2] for line in shown("score")}
    assert lines["--segment"] == "vqatool.toml, invalid: 'long' is not a valid float range"
    assert lines["--fail-on"].startswith("vqatool.toml, invalid: 'error,worse' is not a list")
    assert lines["--jobs"].startswith("$VQATOOL_SCORE_JOBS, invalid: 0 is not in the range")
    assert lines["--force"].startswith("$VQATOOL_SCORE_FORCE, invalid: 'perhaps' is not a valid")
    assert lines["--display"] == "$VQATOOL_SCORE_DISPLAY"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_completes_commands_and_names(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = vqatool("completion", shell)
    assert script.exit_code == 0
    assert "_VQATOOL_COMPLETE" in script.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vqatool lad", {"ladder"}),
        ("vqatool ladder x.mp4 --rungs ap", {"apple-hls", "ap"}),
        ("vqatool score x.mp4 -m def", {"default", "def"}),
        ("vqatool score x.mp4 --gate-on score_", {"score_low", "score_min", "score_p5"}),
    ],
)
def test_names_are_completed(words: str, expected: set[str]) -> None:
    from click.shell_completion import ShellComplete

    *given, incomplete = words.split()
    complete = ShellComplete(cli, {}, "vqatool", "_VQATOOL_COMPLETE")
    assert {item.value for item in complete.get_completions(given[1:], incomplete)} == expected
