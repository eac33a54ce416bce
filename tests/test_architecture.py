"""The directions of import, the tree, and the speed of --help."""

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vqatool.methods import Method

ROOT = Path(__file__).parent.parent

STAGES = (
    "vqatool.data", "vqatool.training", "vqatool.pretraining", "vqatool.evaluation",
    "vqatool.scoring", "vqatool.reporting",
)  # fmt: skip
FORBIDDEN = {
    "ladder": {"vqatool", "torch", "timm", "click", "rich", "accelerate"},
    "ladder/codecs.py": {"ladder"},
    "ladder/media": {"ladder.encode", "ladder.label", "ladder.recommend"},
    "ladder/encode": {"ladder.label", "ladder.recommend"},
    "ladder/label": {"ladder.recommend"},
    "ladder/recommend": {"ladder.treatments", "ladder.synthetic", "ladder.photographs",
                         "ladder.clips"},
    "vqatool/models": {
        "vqatool.inputs", "vqatool.losses", "vqatool.methods", "vqatool.inference", *STAGES,
        "ladder", "click",
    },
    "vqatool/inputs": {
        "vqatool.models", "vqatool.losses", "vqatool.methods", "vqatool.inference", *STAGES,
        "timm", "torch", "click",
    },
    "vqatool/methods": {"vqatool.inference", *STAGES, "click"},
    "vqatool/inference": {*STAGES, "click"},
    "vqatool/data": {*STAGES, "click"} - {"vqatool.data"},
    "vqatool/training": {"vqatool.pretraining", "vqatool.evaluation", "vqatool.scoring",
                         "vqatool.reporting", "click"},
    "vqatool/pretraining": {"vqatool.evaluation", "vqatool.scoring", "vqatool.reporting", "click"},
    "vqatool/scoring": {"torch", "vqatool.training", "vqatool.pretraining", "vqatool.evaluation",
                        "vqatool.reporting", "click"},
    "vqatool/evaluation": {"vqatool.pretraining", "vqatool.scoring", "vqatool.reporting", "click"},
    "vqatool/reporting": {"torch", "vqatool.training", "vqatool.pretraining", "vqatool.evaluation",
                          "click"},
    "vqatool/errors.py": {"vqatool", "ladder", "click"},
    "vqatool/cluster.py": {"torch", "vqatool.inference", *STAGES, "click"},
    "vqatool/terminal.py": {"vqatool", "ladder", "click"},
    "vqatool/losses.py": {"vqatool", "ladder", "click"},
    "vqatool/metrics.py": {"vqatool", "ladder", "torch", "click"},
    "vqatool/bootstrap.py": {"ladder", "torch", "scipy", "click"},
}  # fmt: skip


DOORS = {
    "timm": ("vqatool/models/backbones.py",),
    "subprocess": ("ladder/media/ffmpeg.py",),
    "imageio_ffmpeg": ("ladder/media/ffmpeg.py",),
    "ffmpeg": ("ladder/media", "ladder/label"),
    "av": ("ladder/media", "vqatool/cli/doctor.py"),
    "pebble": ("vqatool/inputs/decode_pool.py",),
    "safetensors": (
        "vqatool/inference/model_file.py",
        "vqatool/pretraining",
    ),
    "onnxruntime": ("vqatool/onnx_session.py",),
    "onnx_ir": ("vqatool/inference/export.py",),
    "accelerate": ("vqatool/training", "vqatool/cli/train.py"),
    "pandas": (
        "vqatool/scoring/formats.py",
        "vqatool/scoring/parquet.py",
        "vqatool/scorer.py",
        "vqatool/training",
    ),
    "IPython": ("vqatool/notebook.py",),
    "pyarrow": ("vqatool/scoring/parquet.py",),
    "obstore": ("ladder/media/stores.py",),
    "fsspec": ("ladder/media/stores.py",),
    "ray": ("vqatool/cluster.py",),
    "jinja2": ("vqatool/reporting/html.py",),
    "matplotlib": ("vqatool/training", "vqatool/evaluation", "vqatool/reporting"),
    "rich": ("vqatool/cli", "vqatool/terminal.py"),
    "click": ("vqatool/cli",),
}
"""Where a library may be imported: a file or a folder."""

ONE_CONCEPT_A_FILE = ("vqatool.cli.", "vqatool.inputs.", "vqatool.methods.", "vqatool.models.")
"""Rooms with one file for each command, view, method and model; `run.py` of a room is its stage."""

ONE_IMPORTER = {
    "vqatool.scoring.parquet": "Parquet in one file and in parts, by the library of that name",
    "ladder.recommend.chart": "the chart as SVG, which knows nothing of files",
    "ladder.recommend.files": "what a recommendation leaves behind, written after the stage",
    "ladder.media.rendition": "what manifests say of a file, by the library of `ladder.media`",
    "ladder.media.reencode": "encoding of frames in process, of the library of `ladder.media`",
    "ladder.label.elsewhere": "the plan of labels without a ladder, which needs the stage itself",
    "ladder.label.frame_ranges": "long films in parts, which the stage need not know of",
    "vqatool.run_metrics": "the metrics of a run and the format of Prometheus, without click",
    "ladder.label.alignment": "how frames are paired, pure and tested without ffmpeg",
    "ladder.label.matching": "the search for a shift, numbers alone and tested without videos",
    "vqatool.scoring.cluster": "scoring where Ray is, loaded if it is asked for",
    "vqatool.scoring.watch": "the stage of `vqatool watch`",
    "vqatool.notebook": "progress in Jupyter, where rich does not work",
    "vqatool.scorer": "the Python interface, light to import",
    "vqatool.scoring.ci_output": "the outcome in the formats of continuous integration",
    "vqatool.training.figures": "the fit of the figure network, after the training",
    "vqatool.training.contents": "the places of contents, which `vqatool explain` looks up",
    "vqatool.evaluation.cost": "parameters, operations, time and memory of a model",
    "vqatool.evaluation.plots": "the plots, which load matplotlib",
    "vqatool.evaluation.summary": "the metrics as sentences",
    "vqatool.pretraining.batches": "batches over several sets of pictures",
    "vqatool.pretraining.distortions": "the synthetic distortions",
    "vqatool.pretraining.fdim": "how a published network becomes the start of ours",
    "vqatool.pretraining.patches": "trains the network of deep features, a program of its own",
    "vqatool.pretraining.published_weights": "the stage of `vqatool import`",
    "vqatool.reporting.frame_plot": "a drawing of every frame, made without matplotlib",
    "vqatool.inference.contributions": "what each input adds to a score, by a published definition",
    "vqatool.reporting.comparison_page": "the page of a comparison",
    "vqatool.reporting.explanation_page": "the page, tables and JSON of `vqatool explain`",
    "ladder.clips": "clean clips of originals, a program of its own",
    "ladder.photographs": "videos made of photographs, a program of its own",
    "ladder.synthetic": "the synthetic videos that models shall warn of, a program of its own",
    "vqatool.training.outliers": "outlier exposure, also a program of its own",
    "vqatool.training.batch_loader": "which encodes and frames are in a batch",
}
"""Modules with a single importer, and why each is a file of its own."""


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file; most tests here read them all."""
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names a module imports, `from a import b` counted as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def files_of(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_point_one_way(place: str) -> None:
    files = files_of(place)
    assert files
    for path in files:
        for name in imports(path):
            banned = [b for b in FORBIDDEN[place] if f"{name}.".startswith(f"{b}.")]
            assert not banned, f"{path} imports {name}"


@pytest.mark.parametrize(
    "place",
    ["inputs", "data", "inference", "scoring", "reporting", "evaluation", "training", "cli"],
)  # fmt: skip
def test_the_pipeline_has_no_branch_on_a_methods_name(place: str) -> None:
    names = {name for method in Method for name in (method.value, method.name)}
    for path in files_of(f"vqatool/{place}"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.If | ast.IfExp | ast.Match | ast.Compare):
                parts = list(ast.walk(node.test if hasattr(node, "test") else node))
                said = {part.value for part in parts if isinstance(part, ast.Constant)}
                said |= {part.attr for part in parts if isinstance(part, ast.Attribute)}
                assert not said & names, f"{path}, line {node.lineno}"


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = [
        path.relative_to(ROOT)
        for folder in ("ladder", "vqatool")
        for path in files_of(folder)
        if any(f"{name}.".startswith(f"{library}.") for name in imports(path))
    ]
    assert users
    for path in users:
        assert any(path.is_relative_to(place) for place in DOORS[library]), path


def test_ladder_imports_what_the_light_install_has() -> None:
    names = {name.partition(".")[0] for path in files_of("ladder") for name in imports(path)}
    assert names - set(sys.stdlib_module_names) - {"ladder"} == {
        "av", "ffmpeg", "imageio_ffmpeg", "numpy",
        "botocore", "fsspec", "obstore",  # of an extra, and behind a door above
    }  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def test_every_room_has_a_rule() -> None:
    rooms = {f"vqatool/{path.parent.name}" for path in ROOT.glob("vqatool/*/__init__.py")}
    assert rooms - {"vqatool/cli"} <= set(FORBIDDEN)


def test_a_module_with_one_importer_is_a_concept_of_its_own() -> None:
    files = {module_name(path): path for path in [*files_of("ladder"), *files_of("vqatool")]}
    importers: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        # `from a import b` may name the module a.b, or b of the module a
        for found in imports(path):
            module = found if found in files else found.rpartition(".")[0]
            if module in files and module != name and name != "ladder":
                importers[module].add(name)
    single = {
        name
        for name, users in importers.items()
        if len(users) <= 1 and files[name].name not in ("__init__.py", "__main__.py", "run.py")
    }
    listed = {name for name in single if name.startswith(ONE_CONCEPT_A_FILE)} | set(ONE_IMPORTER)
    assert single == listed, "merge these into their importer, or bring the list up to date"


def test_only_the_command_line_imports_the_command_line() -> None:
    for path in [*files_of("ladder"), *files_of("vqatool")]:
        if path.name != "__main__.py" and path.parent.name != "cli":
            names = imports(path)
            assert not any(f"{name}.".startswith("vqatool.cli.") for name in names), path


def test_no_module_stands_beside_a_folder_of_its_name() -> None:
    pairs = [p for p in files_of("ladder") + files_of("vqatool") if p.with_suffix("").is_dir()]
    assert not pairs


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from vqatool.cli import cli\n"
        "for args in ([], *([name] for name in cli.commands)):\n"
        "    assert CliRunner().invoke(cli, [*args, '--help']).exit_code == 0, args\n"
        "    names = {'torch', 'timm', 'pandas', 'numpy', 'av', 'matplotlib'}\n"
        "    heavy = names & set(sys.modules)\n"
        "    assert not heavy, f'{args} loads {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_stages_of_ffmpeg_do_not_wait_for_torch(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from vqatool.cli import cli\n"
        "for args in (['ladder', '.', '--dry-run'], ['label', '.']):\n"
        "    done = CliRunner().invoke(cli, args)\n"
        "    assert done.exit_code in (2, 5), done.output\n"  # there is no video here
        "    assert 'torch' not in sys.modules, args\n"
    )
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", script]
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
