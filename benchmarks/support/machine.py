"""The machine that a benchmark ran on, and what is installed there."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

_PACKAGES = (
    *("flask", "flask-httpauth", "gunicorn", "gevent", "httpx", "redis", "psycopg"),
    *("pymysql", "sqlalchemy", "dramatiq", "dramatiq-abort", "rq"),
    *("fastapi-resumable-stream", "fastapi", "uvicorn"),
)
_SERVERS = {"Redis": "redis-server", "PostgreSQL": "psql", "MariaDB": "mariadb"}


def describe() -> str:
    """Describe the machine, the servers and the packages in one line."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = platform.release().partition("-")[0]
    return (
        f"{os.cpu_count()} cores ({found[1] if found else platform.machine()}),"
        f" {memory:.0f} GiB, Linux {kernel}, Python"
        f" {platform.python_version()}; {_versions()}"
    )


def _versions() -> str:
    packages = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    servers = [f"{name} {_version(command)}" for name, command in _SERVERS.items()]
    return ", ".join(packages + servers)


def _version(command: str) -> str:
    if shutil.which(command) is None:
        return "elsewhere"
    said = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\d+\.\d+\.\d+|\d+\.\d+", said.partition("Distrib")[2] or said)
    return found[0] if found else "of no known version"
