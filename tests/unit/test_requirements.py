"""The Astro image installs what uv.lock says: requirements.txt, and what the Dockerfile adds to it, agree with the lock."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from include.venv_prediction import KNOWN_PACKAGES

PROJECT = Path(__file__).parents[2]
REQUIREMENTS = PROJECT / "requirements.txt"
RUNTIME_AIRFLOW = {"3.3-8-python-3.12": "3.3.2"}  # the Astro Runtime of the Dockerfile and the Airflow that it ships
OF_RUNTIME = {
    "apache-airflow",
    "apache-airflow-core",
    "apache-airflow-task-sdk",
}  # the Astro Runtime brings its own build of it
# the oldest and the newest Python of each kind that uv.lock tells apart; the Astro Runtime has 3.12
PYTHONS = ["3.11.2", "3.11.14", "3.12.3", "3.12.12", "3.13.0", "3.13.9"]

pytestmark = pytest.mark.skipif(not (PROJECT / "uv.lock").exists(), reason="uv.lock is not in this copy of the project")


def lines(file: Path) -> list[Requirement]:
    """The requirements of a file, without comments."""
    return [
        Requirement(line)
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]


def export_command() -> list[str]:
    """What writes requirements.txt, as its header says."""
    command = re.search(r"^#    (uv export .*)$", REQUIREMENTS.read_text(), re.M)
    assert command
    return command[1].split()


def linux(python: str) -> dict[str, str]:
    """What markers are compared with in the image, with this Python."""
    values = {str(name): str(value) for name, value in default_environment().items()}
    return values | {
        "python_full_version": python,
        "python_version": python.rsplit(".", 1)[0],
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }


def pins(requirements: list[Requirement], python: str) -> dict[str, str]:
    """What these requirements install on Linux with this Python: version by name."""
    environment = linux(python)
    chosen: dict[str, str] = {}
    for each in requirements:
        if each.marker is None or each.marker.evaluate(environment):
            pinned = re.fullmatch(r"==([^,*]+)", str(each.specifier))
            assert pinned, f"{each} names no exact version"
            name = canonicalize_name(each.name)
            assert name not in chosen, f"{name} is there twice for Python {python}"
            chosen[name] = pinned[1]
    return chosen


@pytest.fixture(scope="module")
def lock() -> dict[str, list[dict]]:
    """The packages of uv.lock by name; some have two versions, for different Pythons."""
    packages: dict[str, list[dict]] = {}
    for package in tomllib.loads((PROJECT / "uv.lock").read_text())["package"]:
        packages.setdefault(package["name"], []).append(package)
    return packages


@pytest.fixture(scope="module")
def direct() -> dict[str, Requirement]:
    """The dependencies of pyproject.toml by name."""
    dependencies = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    return {canonicalize_name(each.name): each for each in map(Requirement, dependencies)}


@pytest.fixture(scope="module")
def without_dependencies() -> dict[str, str]:
    """What the Dockerfile installs with --no-deps."""
    return pins(lines(PROJECT / "docker" / "without-dependencies.txt"), PYTHONS[0])


def test_each_version_is_the_locked_one(lock: dict[str, list[dict]]) -> None:
    for each in lines(REQUIREMENTS):
        name = canonicalize_name(each.name)
        assert name in lock, f"{each} is not in uv.lock: run {' '.join(export_command())}"
        assert str(each.specifier).removeprefix("==") in {package["version"] for package in lock[name]}


@pytest.mark.parametrize("python", PYTHONS)
def test_direct_dependencies_are_there(
    python: str, direct: dict[str, Requirement], without_dependencies: dict[str, str]
) -> None:
    installed = pins(lines(REQUIREMENTS), python)
    for name, wanted in direct.items():
        if name in OF_RUNTIME:
            continue
        places = [place for place in (installed, without_dependencies) if name in place]
        assert len(places) == 1, f"{wanted} is in {len(places)} of requirements.txt and docker/without-dependencies.txt"
        assert places[0][name] in wanted.specifier


@pytest.mark.parametrize("python", PYTHONS)
def test_whole_closure_is_there(python: str, lock: dict[str, list[dict]], without_dependencies: dict[str, str]) -> None:
    """All that the dependencies need in turn, at the version that the lock gives for this Python, and nothing else."""
    installed = pins(lines(REQUIREMENTS), python)
    brought = {name: lock[name][0]["version"] for name in OF_RUNTIME} | without_dependencies
    environment = linux(python)

    def applies(dependency: dict) -> bool:
        return "marker" not in dependency or Marker(dependency["marker"]).evaluate(environment)

    reached: dict[str, str] = {}
    todo: list[dict] = [each for each in lock["possum-and-churn"][0]["dependencies"] if applies(each)]
    seen: list[dict] = []
    while todo:
        needed = todo.pop()
        if needed in seen:
            continue
        seen.append(needed)
        known = lock[needed["name"]]
        (package,) = [each for each in known if len(known) == 1 or each["version"] == needed.get("version")]
        reached[package["name"]] = package["version"]
        found = list(package.get("dependencies", []))
        for extra in needed.get("extra", ()):
            found += package.get("optional-dependencies", {}).get(extra, [])
        todo += [each for each in found if applies(each)]
    assert reached == installed | brought


def test_runtime_brings_the_locked_airflow(lock: dict[str, list[dict]]) -> None:
    images = re.findall(r"^FROM astrocrpublic\.azurecr\.io/runtime:(\S+)", (PROJECT / "Dockerfile").read_text(), re.M)
    runtimes = {image.removesuffix("-base") for image in images}
    assert len(runtimes) == 1
    assert images[0] in runtimes, "the Astro CLI takes the version from the first FROM, which must be a plain tag"
    runtime = runtimes.pop()
    assert RUNTIME_AIRFLOW[runtime] == lock["apache-airflow"][0]["version"]
    assert runtime.endswith("-python-3.12")  # without it the image has a Python that this project does not support


def test_no_dependency_of_the_added_packages_is_lost(
    lock: dict[str, list[dict]], without_dependencies: dict[str, str]
) -> None:
    installed = pins(lines(REQUIREMENTS), PYTHONS[0]) | dict.fromkeys(OF_RUNTIME, "")
    for name, version in without_dependencies.items():
        (package,) = lock[name]
        assert version == package["version"]
        for dependency in package["dependencies"]:
            if "never" not in dependency.get("marker", ""):
                assert dependency["name"] in installed


@pytest.mark.parametrize("python", PYTHONS)
def test_nothing_is_compiled(python: str, lock: dict[str, list[dict]]) -> None:
    """Each package has a wheel for Linux, on Intel and on ARM (Apple silicon); the image has no compiler."""
    tag = f"-cp{linux(python)['python_version'].replace('.', '')}-|-abi3-|-py3-none-"
    for name, version in pins(lines(REQUIREMENTS), python).items():
        (package,) = [each for each in lock[name] if each["version"] == version]
        files = [wheel["url"].rsplit("/", 1)[1] for wheel in package.get("wheels", [])]
        if any(file.endswith("-none-any.whl") for file in files):
            continue
        for machine in ("x86_64", "aarch64"):
            fitting = [file for file in files if "manylinux" in file and machine in file]
            assert any(re.search(tag, file) for file in fitting), name


def test_wheels_for_predictions_are_of_the_requirements() -> None:
    installed = pins(lines(REQUIREMENTS), PYTHONS[0])
    for each in lines(PROJECT / "docker" / "model-wheels.txt"):
        assert canonicalize_name(each.name) in installed
        assert not each.specifier, "requirements.txt gives the version"


def test_wheels_for_predictions_are_all_that_a_model_may_need() -> None:
    carried = {canonicalize_name(each.name) for each in lines(PROJECT / "docker" / "model-wheels.txt")}
    missing = set(KNOWN_PACKAGES) - carried
    assert not missing, f"run_prediction accepts models that need {missing}: add them to docker/model-wheels.txt"


@pytest.fixture(scope="module")
def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("uv is not installed here")
    return found


def test_header_command_writes_the_file_again(tmp_path: Path, uv: str) -> None:
    command = export_command()
    arguments = command[1:]
    place = arguments.index("--output-file") + 1
    arguments[place] = str(tmp_path / "requirements.txt")
    subprocess.run([uv, *arguments, "--offline"], cwd=PROJECT, check=True, capture_output=True)
    written = (tmp_path / "requirements.txt").read_text().splitlines()
    there = REQUIREMENTS.read_text().splitlines()
    assert written[2:] == there[2:], "requirements.txt is older than uv.lock: run make requirements"


def test_setup_installs_with_the_locked_uv(tmp_path: Path, uv: str) -> None:
    written = tmp_path / "requirements.txt"
    options = ["--frozen", "--offline", "--only-group", "bootstrap", "--no-header", "--output-file", str(written)]
    subprocess.run([uv, "export", *options], cwd=PROJECT, check=True, capture_output=True)
    there = PROJECT / "local_stack" / "bootstrap-requirements.txt"
    assert written.read_text() == there.read_text(), f"{there.name} is older than uv.lock: run make requirements"


def test_pythons_are_those_of_the_project() -> None:
    supported = SpecifierSet(tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"])
    assert all(python in supported for python in PYTHONS)
