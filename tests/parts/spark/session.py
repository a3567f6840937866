"""Apache Spark with delta-spark, which stands for Synapse, Databricks and Fabric, as a function that reads tables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.conftest import Require

    Read = Callable[[Mapping[str, str], Mapping[str, str]], dict[str, Any]]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PYTHON = Path(os.environ.get("ALUMICATALYST_TEST_SPARK", ROOT / ".venv" / "spark" / "bin" / "python"))
JARS = HERE / "jars"


@pytest.fixture(scope="session")
def spark(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return `spark(tables, queries)`: types and rows of Delta tables, and of SQL over them, from a process of its own.

    Starting one takes most of the time, so a test asks all it has to ask at once.
    """
    require(shutil.which("java"), "there is no Java; install Java 17 (openjdk-17-jre-headless)")
    require(PYTHON.is_file(), f"Spark is not installed in {PYTHON.parents[1]}; run `make setup`")
    require(any(JARS.glob("delta-spark_*.jar")), f"Delta's jars are not in {JARS}; install Maven and run `make setup`")

    def read(tables: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("spark")
        questions = folder / "questions.json"
        questions.write_text(json.dumps({"tables": dict(tables), "queries": dict(queries)}))
        done = subprocess.run(
            [str(PYTHON), str(HERE / "read_tables.py"), str(JARS), str(questions)],
            cwd=folder,
            env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "TZ": "UTC", "SPARK_LOCAL_DIRS": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"Spark ended with {done.returncode}: {_cause(done.stderr)}")
        answers: dict[str, Any] = json.loads(done.stdout)
        return answers

    return read


def _cause(said: str) -> str:
    """Return the lines that name a cause, and the end of what was said."""
    causes = [line for line in said.splitlines() if line.startswith("Caused by:")]
    return "\n".join([*causes, said[-3_000:]])
