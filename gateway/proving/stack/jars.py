"""Apache Kafka's libraries: fetched once a user from Maven, and trusted by committed checksums only.

`deploy/kafka-jars.sha256` lists every file in the layout of a Maven repository, in the format of `sha256sum -c`.
The list is the whole truth: what is downloaded, what a cache may hold and what goes on the class path.
"""

import concurrent.futures
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.state import file_lock
from gateway.proving.stack.versions import DEPLOY_DIR, versions

if TYPE_CHECKING:
    from jgo.maven import MavenContext

JAR_LIST = DEPLOY_DIR / "kafka-jars.sha256"
# Enough to hide round trips for 46 small files, too few to annoy a mirror.
DOWNLOADS_AT_ONCE = 6
ATTEMPTS = 4
BACKOFF_S = 0.5
_LINE = re.compile(r"([0-9a-f]{64})  (\S+\.jar)")


@dataclass(frozen=True, slots=True)
class Jar:
    """One library: its path in a Maven repository (`group/as/path/artifact/version/file.jar`) and its SHA-256."""

    path: PurePosixPath
    sha256: str

    @property
    def coordinates(self) -> tuple[str, str, str]:
        """Group id, artifact id and version."""
        *group, artifact, version, _ = self.path.parts
        return ".".join(group), artifact, version


def read_jar_list(path: Path = JAR_LIST) -> tuple[Jar, ...]:
    """Read the committed list.

    Raises:
        LocalStackError: it is missing, empty or has a malformed line.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError as error:
        raise LocalStackError(f"The list of Kafka's libraries {path} is missing.", "Restore it from git.") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if not matches or not all(matches):
        raise LocalStackError(f"{path} is not a list of SHA-256 sums.", "Restore it from git, or run `make lock`.")
    return tuple(Jar(PurePosixPath(match[2]), match[1]) for match in matches if match)


def cache_home() -> Path:
    """Return the user's cache directory of this project."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mypay"


def class_path(progress: Callable[[str], None], jars: tuple[Jar, ...] | None = None) -> str:
    """Return Kafka's class path, downloading what the user's cache lacks.

    Raises:
        LocalStackError: a download was refused, or a cached file is not the listed one.
    """
    jars = read_jar_list() if jars is None else jars
    digest = hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()[:12]
    directory = cache_home() / f"kafka-{versions().kafka}-{digest}"
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(directory.parent / f".{directory.name}.lock", "the download of Kafka's libraries"):
            if not directory.exists():
                _download_all(jars, directory, progress)
    verify(directory, jars)
    return os.pathsep.join(str(directory / jar.path) for jar in jars)


def verify(directory: Path, jars: tuple[Jar, ...]) -> None:
    """Check that a cache directory holds the listed files and no other.

    Raises:
        LocalStackError: naming the first file that is missing, changed or unexpected.
    """
    hint = f"Remove {directory} and start again: it will be downloaded anew."
    for jar in jars:
        file = directory / jar.path
        if not file.is_file():
            raise LocalStackError(f"Kafka's library {jar.path.name} is missing from the cache.", hint)
        if _sha256(file) != jar.sha256:
            raise LocalStackError(f"Kafka's library {jar.path.name} in the cache is not the listed one.", hint)
    listed = {directory / jar.path for jar in jars}
    for file in sorted(directory.rglob("*.jar")):
        if file not in listed:
            raise LocalStackError(f"The cache of Kafka's libraries holds {file.name}, which is not listed.", hint)


def maven_context(repository: Path) -> "MavenContext":
    """Return a Maven client that stores below `repository` and uses the mirrors of the user's jgo configuration."""
    from jgo.config import GlobalSettings  # noqa: PLC0415  slow, and needed for a download alone
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    remotes = {"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories
    return MavenContext(repo_cache=repository, remote_repos=remotes, timeout=30)


def _download_all(jars: tuple[Jar, ...], directory: Path, progress: Callable[[str], None]) -> None:
    progress(f"Downloading Apache Kafka {versions().kafka}: {len(jars)} libraries, about 45 MB, once for this user")
    for leftover in directory.parent.glob(f"{directory.name}.*.part"):
        shutil.rmtree(leftover)  # of a killed download; the lock says that no other is under way
    scratch = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", suffix=".part", dir=directory.parent))
    try:
        context = maven_context(scratch)
        with concurrent.futures.ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            jobs = [pool.submit(_fetch, jar, scratch, context) for jar in jars]
            try:
                for job in concurrent.futures.as_completed(jobs):
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        scratch.rename(directory)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _fetch(jar: Jar, repository: Path, context: "MavenContext") -> None:
    target = repository / jar.path
    owned = Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository") / jar.path
    if owned.is_file() and _sha256(owned) == jar.sha256:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(owned, target)
        return
    group, artifact, version = jar.coordinates
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_S * 2**attempt)
        try:
            context.project(group, artifact).at_version(version).artifact().resolve()
        except (RuntimeError, OSError) as error:
            # jgo's text may name mirrors and their credentials; the kind of failure is enough here.
            reason = type(error).__name__
        else:
            if _sha256(target) == jar.sha256:
                return
            reason = "its content is not the listed one"
        target.unlink(missing_ok=True)
    raise LocalStackError(
        f"Kafka's library {jar.path.name} could not be downloaded in {ATTEMPTS} attempts: {reason}.",
        "Check that this machine reaches Maven Central; a mirror can be named in section [repositories] of "
        "~/.config/jgo.conf. Or start against a cluster of your own with MYPAY_KAFKA_BOOTSTRAP_SERVERS.",
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
