"""Processes that are forks of one that has imported what takes long, as Airflow's tasks are."""

import importlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Collection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any


def fork_server(*preloaded: str) -> ForkServerContext:
    """The process to fork from, which imports these modules first. None of them may read settings: each fork has its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))
    return context


def start(
    server: ForkServerContext, module: str, arguments: Collection[Any], environ: dict[str, str], home: Path
) -> BaseProcess:
    """Call ``main`` of the module in a new session, with only ``environ`` as its environment, in the folder ``home``.

    Its output goes to the file ``log`` there.
    """
    process = server.Process(target=_run, args=(module, arguments, environ, home))
    process.start()
    return process


def _run(module: str, arguments: Collection[Any], environ: dict[str, str], home: Path) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(home)
    tempfile.tempdir = None  # which may have been looked up before the fork
    with (home / "log").open("wb") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    importlib.import_module(module).main(*arguments)
