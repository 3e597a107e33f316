"""Images built without a container engine: buildah in a chroot, on a stand-in for the base that Debian's packages make.

The stand-in proves our steps, not the real base image. Where packages come from is the machine's own business: its
apt sources, its pip configuration.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness import TREE

BASE = "docker.io/library/python:3.11-slim-bookworm"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PROGRAM_FOLDERS = ("bin", "cli-plugins")
_PIP_SETTINGS = ("index-url", "extra-index-url", "cert", "proxy", "trusted-host")


class Builder:
    """buildah with a storage of its own in ``folder``, and the stand-in base image in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.volumes = _pip_configuration(folder)
        _need("buildah", "mmdebstrap")
        self._make_base()

    def buildah(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run buildah; what it says on both streams is in ``stdout``."""
        places = ("--root", str(self.folder / "store"), "--runroot", str(self.folder / "run"))
        done = subprocess.run(
            ["buildah", *places, *arguments],
            env={
                **os.environ,
                "BUILDAH_ISOLATION": "chroot",
                "STORAGE_DRIVER": "vfs",
                "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout[-4000:]
        return done

    def build(
        self, target: str, *, arguments: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Build a stage of our Dockerfile, tagged by its name."""
        volumes = [part for volume in self.volumes for part in ("--volume", volume)]
        given = [part for name, value in (arguments or {}).items() for part in ("--build-arg", f"{name}={value}")]
        plain = ("--pull-never", "--layers", "--format", "docker", "--network", "host")
        return self.buildah("bud", *plain, "--target", target, "-t", target, *volumes, *given, str(TREE), check=check)

    def close(self) -> None:
        """Leave nothing mounted: what is could not be deleted by whoever tidies the folder."""
        self.buildah("umount", "--all", check=False)
        self.buildah("rm", "--all", check=False)
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((each for each in mounted if each.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", place], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_base(self) -> None:
        tar = self.folder / "base.tar"
        packages = "--include=python3,python3-venv,ca-certificates"
        mirror = _mirror()
        command = ["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(tar), mirror]
        subprocess.run(command, check=True, capture_output=True)
        (self.folder / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
        self.buildah("bud", "--format", "docker", "-t", BASE, str(self.folder))
        tar.unlink()


def compose(folder: Path) -> Path:
    """The real Compose, of Debian 13, unpacked into ``folder``: Debian 12 has a version that knows less."""
    if not _KEYRING.exists():
        pytest.skip(f"needs Debian's apt and {_KEYRING}, to fetch the package docker-compose")
    sources = folder / "trixie.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror()} trixie main\n")
    (folder / "lists" / "partial").mkdir(parents=True)
    places = {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null"}
    places |= {"Dir::State::lists": folder / "lists", "Dir::Cache": folder / "cache", "APT::Sandbox::User": "root"}
    apt = ["apt-get", "-qq", *(part for name, value in places.items() for part in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    subprocess.run([*apt, "download", "docker-compose"], cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("docker-compose_*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder / "unpacked")], check=True)
    return next(path for path in (folder / "unpacked").rglob("docker-compose") if path.parent.name in _PROGRAM_FOLDERS)


def _need(*programs: str) -> None:
    """Install what is missing, as root on Debian; else skip, and say what is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"needs {' and '.join(missing)}: install them (Debian: apt-get install {' '.join(missing)})")
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", *command], check=True, capture_output=True, env=environment)


def _mirror() -> str:
    """Where this machine takes Debian 12 from."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    found = [line.split()[0] for line in lines if line.split()[1:] == ["bookworm", "main"]]
    if not found:
        pytest.skip("needs a machine of Debian 12 with apt sources, from which the stand-in base is made")
    return found[0]


def _pip_configuration(folder: Path) -> list[str]:
    """Volumes that give a build this machine's pip configuration, and the certificates it names."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    kept = {name: settings[name] for name in _PIP_SETTINGS if name in settings and "file:" not in settings[name]}
    file = folder / "pip.conf"
    file.write_text("\n".join(["[global]", *(f"{name} = {value}" for name, value in kept.items())]) + "\n")
    certificates = [f"{kept['cert']}:{kept['cert']}:ro"] if "cert" in kept else []
    return [f"{file}:/etc/pip.conf:ro", *certificates]
