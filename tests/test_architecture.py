"""The directions of import, the tree, and the speed of --help."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vqatool.cli import cli
from vqatool.methods import Method

ROOT = Path(__file__).parent.parent

STAGES = (
    "vqatool.data", "vqatool.training", "vqatool.pretraining", "vqatool.evaluation",
    "vqatool.scoring", "vqatool.reporting",
)  # fmt: skip
FORBIDDEN = {
    "ladder": {"vqatool", "torch", "timm", "click", "rich", "accelerate"},
    "ladder/codecs.py": {"ladder"},
    "ladder/media": {"ladder.encode", "ladder.label", "ladder.adaptive"},
    "ladder/encode": {"ladder.label", "ladder.adaptive"},
    "ladder/label": {"ladder.adaptive"},
    "vqatool/models": {
        "vqatool.inputs", "vqatool.losses", "vqatool.methods", "vqatool.inference", *STAGES,
        "ladder", "click",
    },
    "vqatool/inputs": {
        "vqatool.models", "vqatool.losses", "vqatool.methods", "vqatool.inference", *STAGES,
        "timm", "click",
    },
    "vqatool/methods": {"vqatool.inference", *STAGES, "click"},
    "vqatool/inference": {*STAGES, "click"},
    "vqatool/data": {*STAGES, "click"} - {"vqatool.data"},
    "vqatool/training": {"vqatool.pretraining", "vqatool.evaluation", "vqatool.scoring",
                         "vqatool.reporting", "click"},
    "vqatool/pretraining": {"vqatool.evaluation", "vqatool.scoring", "vqatool.reporting", "click"},
    "vqatool/scoring": {"vqatool.training", "vqatool.pretraining", "vqatool.evaluation",
                        "vqatool.reporting", "click"},
    "vqatool/losses.py": {"vqatool", "ladder", "click"},
    "vqatool/metrics.py": {"vqatool", "ladder", "torch", "click"},
}  # fmt: skip


def imports(source: str) -> set[str]:
    """Dotted names a module imports, `from a import b` counted as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files_of(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_point_one_way(place: str) -> None:
    files = files_of(place)
    assert files
    for path in files:
        for name in imports(path.read_text()):
            banned = [b for b in FORBIDDEN[place] if f"{name}.".startswith(f"{b}.")]
            assert not banned, f"{path} imports {name}"


@pytest.mark.parametrize(
    "place",
    ["inputs", "data", "inference", "scoring", "reporting", "evaluation", "training", "cli"],
)  # fmt: skip
def test_the_pipeline_has_no_branch_on_a_methods_name(place: str) -> None:
    names = {name for method in Method for name in (method.value, method.name)}
    for path in files_of(f"vqatool/{place}"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.If | ast.IfExp | ast.Match | ast.Compare):
                parts = list(ast.walk(node.test if hasattr(node, "test") else node))
                said = {part.value for part in parts if isinstance(part, ast.Constant)}
                said |= {part.attr for part in parts if isinstance(part, ast.Attribute)}
                assert not said & names, f"{path}, line {node.lineno}"


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("timm", {"vqatool/models/backbones.py"}),
        ("subprocess", {"ladder/media/ffmpeg.py"}),
    ],
)
def test_each_of_these_libraries_has_one_door(library: str, owners: set[str]) -> None:
    users = {
        str(path.relative_to(ROOT))
        for folder in ("ladder", "vqatool")
        for path in files_of(folder)
        if any(f"{name}.".startswith(f"{library}.") for name in imports(path.read_text()))
    }
    assert users == owners


def test_only_the_command_line_imports_the_command_line() -> None:
    for path in [*files_of("ladder"), *files_of("vqatool")]:
        if path.name != "__main__.py" and path.parent.name != "cli":
            names = imports(path.read_text())
            assert not any(f"{name}.".startswith("vqatool.cli.") for name in names), path


def test_no_module_stands_beside_a_folder_of_its_name() -> None:
    pairs = [p for p in files_of("ladder") + files_of("vqatool") if p.with_suffix("").is_dir()]
    assert not pairs


def test_click_is_used_by_the_command_line_alone() -> None:
    for path in [*files_of("ladder"), *files_of("vqatool")]:
        if path.parent.name != "cli":
            assert not any(f"{n}.".startswith("click.") for n in imports(path.read_text())), path


@pytest.mark.parametrize("name", ["", *cli.commands])
def test_help_loads_nothing_heavy(name: str) -> None:
    args = [name, "--help"] if name else ["--help"]
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from vqatool.cli import cli\n"
        f"assert CliRunner().invoke(cli, {args}).exit_code == 0\n"
        "heavy = {'torch', 'timm', 'pandas', 'numpy', 'av', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["ladder", ".", "--dry-run"], ["label", ".", "--vmaf"]])
def test_the_stages_of_ffmpeg_do_not_wait_for_torch(tmp_path: Path, command: list[str]) -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from vqatool.cli import cli\n"
        "done = CliRunner().invoke(cli, sys.argv[1:])\n"
        "assert done.exit_code in (2, 5), done.output\n"  # there is no video here
        "sys.exit('torch' in sys.modules)\n"
    )
    run = [sys.executable, "-c", script, *command]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, env=here)
    assert done.returncode == 0, done.stderr


def test_ladder_works_without_torch() -> None:
    script = "import sys, ladder\nsys.exit('torch' in sys.modules or 'click' in sys.modules)\n"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_asking_a_model_does_not_wait_for_what_trains_one() -> None:
    script = (
        "import sys\n"
        "from vqatool.cli.options import predictor_for\n"
        "predictor_for(None, 'cpu')\n"
        "heavy = {n for n in sys.modules if n.startswith(('vqatool.training', 'accelerate'))}\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
