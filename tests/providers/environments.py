"""The environments that the client libraries are installed in.

Not all fit into one: llama-index needs openai 2, which runs on httpx; openai 3 runs on
httpx2. ``.ci/environments`` makes them beside ``.venv``.
"""

import os
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment, with the libraries that are tried in it.

    :param name: of the extra, too, that lists what it needs.
    :param only: patterns of the modules in ``libraries/``.
    :param but: those that are not for it.
    """

    name: str
    only: tuple[str, ...]
    but: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that says where its Python is."""
        return f"CHATSTOP_{self.name.replace('-', '_').upper()}_PYTHON"

    @property
    def path(self) -> str:
        """Where its Python is, if it is there."""
        default = ROOT / f".venv-{self.name}" / "bin" / "python"
        return os.environ.get(self.variable, str(default))

    def python(self) -> str:
        """Give its Python, or skip the test."""
        if not Path(self.path).exists():
            pytest.skip(f"no {self.path}: run .ci/environments, or set {self.variable}")
        return self.path

    def libraries(self) -> list[str]:
        modules = (ROOT / "tests" / "providers" / "libraries").glob("[a-z]*.py")
        return [
            name
            for name in sorted(module.stem for module in modules)
            if any(fnmatch(name, pattern) for pattern in self.only)
            and not any(fnmatch(name, pattern) for pattern in self.but)
        ]


class OwnEnvironment(Environment):
    """The one that the tests themselves run in."""

    def python(self) -> str:
        return sys.executable


OWN = OwnEnvironment("test", only=())
PROVIDERS = Environment("test-providers", only=("*",), but=("llama_index*",))
ENVIRONMENTS = [
    PROVIDERS,
    # With the newest openai that runs on httpx.
    Environment("test-llama-index", only=("llama_index*", "openai*", "async_openai*")),
]
if os.environ.get("CHATSTOP_OLDEST"):
    only = (
        "anthropic*",
        "async_aiohttp_text",
        "boto3*",
        "httpx_text",
        "openai_chat",
        "requests*",
        "urllib3*",
    )
    ENVIRONMENTS.append(Environment("test-oldest", only=only))
