"""The image and its manifests, read: no container is built here."""

import configparser
import fnmatch
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.test_docs import blocks_of
from tests.vqatool.program import vqatool
from vqatool.cli import cli
from vqatool.scoring.shards import COUNT_VARIABLE, Shard

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "howto" / "batch-systems.md"


def steps(stage: int) -> list[tuple[str, str]]:
    """(instruction, arguments) of one stage of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    starts = [n for n, line in enumerate(lines) if line.startswith("FROM ")]
    begin, end = starts[stage], [*starts, len(lines)][stage + 1]
    return [tuple(line.split(" ", 1)) for line in lines[begin:end]]  # type: ignore[misc]


BUILD, FINAL = steps(0), steps(1)


def arguments(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [given for instruction, given in stage if instruction == name]


def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def copied(stage: list[tuple[str, str]]) -> list[str]:
    return [source for given in arguments(stage, "COPY") for source in given.split()[:-1]]


@pytest.mark.parametrize("name", [*copied(BUILD), *copied(FINAL)])
def test_a_file_that_is_copied_is_in_the_build_context(name: str) -> None:
    assert (ROOT / name).exists()
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert f"!{name}" in rules
    assert not any(fnmatch.fnmatch(name, rule) for rule in rules[1:] if not rule.startswith("!"))


def test_the_wheel_has_what_its_metadata_names() -> None:
    metadata = setup()["metadata"]
    needed = [
        metadata["long_description"].removeprefix("file: "),
        *metadata["license_files"].split(),
    ]
    tops = {Path(name).parts[0] for name in (*needed, "pyproject.toml", "setup.cfg")}
    packages = setup()["options.packages.find"]["include"].split()
    assert tops | {name for name in packages if "." not in name} == set(copied(BUILD))


def test_both_stages_have_a_python_that_is_supported() -> None:
    (first,), (second,) = arguments(BUILD, "FROM"), arguments(FINAL, "FROM")
    assert first == f"{second} AS build"
    version = re.fullmatch(r"python:(3\.\d+)-slim", second)
    assert version
    classifiers = setup()["metadata"]["classifiers"].split("\n")
    assert f"Programming Language :: Python :: {version[1]}" in classifiers


def test_the_user_is_a_number_and_not_root() -> None:
    names = [instruction for instruction, _ in FINAL]
    (user,) = arguments(FINAL, "USER")
    number = user.partition(":")[0]
    assert number.isdigit()
    assert int(number) > 0
    assert any(f"useradd --uid {number} " in given for given in arguments(FINAL, "RUN"))
    after = names[names.index("USER") :]
    assert "RUN" not in after  # what is installed belongs to root


def test_the_program_is_the_entry_point_and_runs_its_default() -> None:
    (entry,), (default,) = arguments(FINAL, "ENTRYPOINT"), arguments(FINAL, "CMD")
    scripts = setup()["options.entry_points"]["console_scripts"]
    assert json.loads(entry) == [scripts.split("=")[0].strip()]
    done = vqatool(*json.loads(default))
    assert done.exit_code == 0
    assert "score" in done.stdout


def test_the_licence_of_ffmpeg_is_written_as_the_program_tells_it(tmp_path: Path) -> None:
    (command,) = [given for given in arguments(FINAL, "RUN") if " -L > " in given]
    path = command.rpartition(" > ")[2]
    here = command.replace(path, str(tmp_path / "licence.txt"))
    here = here.replace("$(python ", f"$({shlex.quote(sys.executable)} ")
    subprocess.run(["sh", "-ec", here], check=True, capture_output=True)
    assert "GNU General Public License" in (tmp_path / "licence.txt").read_text()
    notice = (ROOT / "docker" / "NOTICE").read_text()
    assert Path(path).name in notice
    assert "version 3 or later" in " ".join(notice.split())
    (labels,) = arguments(FINAL, "LABEL")
    assert 'licenses="MIT AND GPL-3.0-or-later"' in labels
    assert f"COPY docker/NOTICE {Path(path).parent}/NOTICE" in {" ".join(step) for step in FINAL}


def test_pip_installs_the_wheel_with_extras_that_exist() -> None:
    (install,) = [given for given in arguments(FINAL, "RUN") if "pip install" in given]
    assert install.endswith('"$(ls /wheels/*.whl)$EXTRAS"')
    (constraints,) = [given for given in arguments(FINAL, "COPY") if "constraints" in given]
    assert f"-c {constraints.split()[-1]} " in install
    assert {'EXTRAS=""', 'PACKAGES=""'} <= set(arguments(FINAL, "ARG"))
    text = (ROOT / "Dockerfile").read_text() + PAGE.read_text()
    named = {
        extra for found in re.findall(r"EXTRAS='\[([\w,]+)\]'", text) for extra in found.split(",")
    }
    assert named
    assert named <= set(setup()["options.extras_require"])


# ---- manifests


def manifests() -> dict[str, dict[str, Any]]:
    found = [yaml.safe_load(block.text) for block in blocks_of(PAGE) if block.language == "yaml"]
    return {manifest["kind"]: manifest for manifest in found}


def parse(words: list[str]) -> dict[str, Any]:
    command = cli.commands[words[0]]
    assert isinstance(command, click.Command)
    parser = command.make_parser(click.Context(command))
    values, _, _ = parser.parse_args(list(words[1:]))
    return values


def test_the_image_has_the_version_of_this_program() -> None:
    named = set(re.findall(r"\bvqatool(?:-ray)?:([\w.]+)", PAGE.read_text()))
    newest = re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert named == {newest[1]}


def test_the_job_of_kubernetes_covers_every_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    job = manifests()["Job"]["spec"]
    assert job["completionMode"] == "Indexed"
    pod = job["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    for index in range(job["completions"]):
        assert Shard.of_environment({**environment, "JOB_COMPLETION_INDEX": str(index)}) == Shard(
            index + 1, job["completions"]
        )
    assert environment.keys() == {COUNT_VARIABLE}
    values = parse(container["args"])
    assert values["shard"] == "auto"
    assert "$(JOB_COMPLETION_INDEX)" in values["out"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert values["out"].startswith(mounts["media"])
    assert container["resources"]["requests"]["cpu"] == values["jobs"]


def test_every_node_of_the_ray_cluster_sees_the_same_files() -> None:
    spec = manifests()["RayJob"]["spec"]
    program, *words = shlex.split(spec["entrypoint"])
    assert program == "vqatool"
    values = parse(words)
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    containers = [container for pod in pods for container in pod["containers"]]
    assert len({json.dumps([c["image"], c["volumeMounts"]]) for c in containers}) == 1
    assert len({json.dumps(pod["volumes"]) for pod in pods}) == 1
    (mount,) = containers[0]["volumeMounts"]
    assert values["out"].startswith(mount["mountPath"])
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods)
