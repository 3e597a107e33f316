"""The API image is built in full and run as its user; the worker image up to where torch would come."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.building import Builder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_RUN = """
set -eu
echo "user $(id -u):$(id -g)"
stillhouse migrate 2>/dev/null
stillhouse api --host 127.0.0.1 --port PORT &
api=$!
for _ in $(seq 200); do python -m app.probe api PORT 2>/dev/null && break; sleep 0.2; done
python -m app.probe api PORT && echo "probe of a live API 0"
python - <<'END'
import urllib.request
for path in ("healthz", "readyz"):
    print(path, urllib.request.urlopen(f"http://127.0.0.1:PORT/{path}").read().decode())
END
kill $api
wait $api || true
python -m app.probe api PORT 2>/dev/null || echo "probe of a dead API $?"
python -c "import torch" 2>&1 | tail -1
touch /srv/stillhouse/x 2>/dev/null || echo "the source cannot be written"
stillhouse --help > /dev/null && echo "the command runs"
"""


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    made = Builder(tmp_path_factory.mktemp("images"))
    yield made
    made.close()


def test_the_api_image_runs_as_its_user_and_has_no_torch(builder: Builder) -> None:
    builder.build("api")
    configured = configuration(builder, "api")
    assert configured["User"] == "10001:10001"
    assert configured["Healthcheck"]["Test"] == ["CMD", "python", "-m", "app.probe", "api"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    container = builder.buildah("from", "--pull-never", "api").stdout.split()[-1]
    said = builder.buildah("run", container, "--", "sh", "-c", _RUN.replace("PORT", str(port))).stdout
    lines = said.splitlines()
    assert "user 10001:10001" in lines
    assert 'healthz {"status":"ok"}' in lines, said
    ready = next(json.loads(line.partition(" ")[2]) for line in lines if line.startswith("readyz "))
    assert ready["ready"], ready
    assert "ModuleNotFoundError: No module named 'torch'" in lines
    expected = {"probe of a live API 0", "probe of a dead API 1", "the source cannot be written", "the command runs"}
    assert expected <= set(lines), said
    check_files(Path(builder.buildah("mount", container).stdout.split()[-1]))


def check_files(root: Path) -> None:
    """No cache, no worker; bytecode that does not depend on time stamps beside every source."""
    assert not (root / "root" / ".cache").exists()
    tree = root / "srv" / "stillhouse"
    assert sorted(path.name for path in tree.iterdir() if path.suffix != ".egg-info") == [
        "README.md",
        "app",
        "constraints.txt",
        "migrations",
        "pyproject.toml",
        "stillhouse",
    ]
    sources = [*tree.glob("app/**/*.py"), *(root / "opt" / "venv").glob("lib/python3.11/site-packages/fastapi/*.py")]
    assert len(sources) > 80
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0", source  # PEP 552: by hash, unchecked


def test_the_worker_image_is_built_up_to_torch(builder: Builder) -> None:
    builder.build("worker-without-torch")
    configured = configuration(builder, "worker-without-torch")
    assert configured["User"] == "10001:10001"
    assert configured["Cmd"] == ["stillhouse", "worker"]
    assert configured["Healthcheck"]["Test"] == ["CMD", "python", "-m", "app.probe", "worker"]
    container = builder.buildah("from", "--pull-never", "worker-without-torch").stdout.split()[-1]
    said = builder.buildah("run", container, "--", "sh", "-c", "id -u; ls worker/__pycache__ | head -1; ls -ld /data")
    user, compiled, data = said.stdout.splitlines()[-3:]
    assert user == "10001"
    assert compiled.endswith(".pyc")
    assert data.split()[:3] == ["drwx------", "2", "stillhouse"]


def test_pip_args_reach_pip(builder: Builder) -> None:
    refused = builder.build("packages", arguments={"PIP_ARGS": "--no-such-option"}, check=False)
    assert refused.returncode != 0
    assert "no such option: --no-such-option" in refused.stdout


def configuration(builder: Builder, image: str) -> dict:  # type: ignore[type-arg]
    return json.loads(builder.buildah("inspect", "--type", "image", image).stdout)["Docker"]["config"]  # type: ignore[no-any-return]
