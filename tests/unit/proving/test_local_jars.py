"""Kafka's libraries: trusted by the committed list alone, fetched once, whatever the network does."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest

from gateway.proving.stack import LocalStackError, jars
from gateway.proving.stack.jars import Jar
from gateway.proving.stack.versions import versions

FILES = {"/org/example/a/1.0/a-1.0.jar": b"first", "/org/example/deep/b/2.1/b-2.1.jar": b"second"}
LISTED = tuple(Jar(PurePosixPath(path[1:]), hashlib.sha256(body).hexdigest()) for path, body in FILES.items())


class Repository:
    """A Maven repository on this machine, which can be told to fail."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.broken: dict[str, int] = {}  # path → how many requests still get half of the file
        self.refuse = False
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path)
        body = FILES.get(request.path)
        if self.refuse or body is None:
            request.send_error(403 if self.refuse else 404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.broken.get(request.path, 0) > 0:
            self.broken[request.path] -= 1
            body = body[: len(body) // 2]
        request.wfile.write(body)

    def downloads(self) -> list[str]:
        return sorted(path for path in self.requests if path in FILES)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    repository = Repository()
    config = tmp_path / "jgo.conf"
    config.write_text(f"[repositories]\ncentral = http://127.0.0.1:{repository.server.server_port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setattr(jars, "BACKOFF_S", 0.001)
    yield repository
    repository.server.shutdown()
    repository.server.server_close()


def quiet(_: str) -> None:
    pass


def cached() -> list[Path]:
    return sorted(jars.cache_home().glob("kafka-*"))


def test_the_committed_list_is_one_whole_kafka() -> None:
    listed = jars.read_jar_list()
    by_artifact = {jar.coordinates[1]: jar.coordinates for jar in listed}
    assert len(by_artifact) == len(listed), "one version of everything"
    assert {version for group, _, version in by_artifact.values() if group == "org.apache.kafka"} == {versions().kafka}
    assert by_artifact["log4j-slf4j-impl"][2] == by_artifact["log4j-core"][2] == versions().log4j


@pytest.mark.parametrize("content", ["", "abc  x.jar\n", "0" * 64 + " x.jar\n", "0" * 64 + "  x.pom\n"])
def test_a_malformed_list_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(content)
    with pytest.raises(LocalStackError, match="not a list"):
        jars.read_jar_list(tmp_path / "list")


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"none\.txt is missing"):
        jars.read_jar_list(tmp_path / "none.txt")


def test_libraries_are_fetched_once(repository: Repository) -> None:
    path = jars.class_path(quiet, LISTED)
    assert [Path(part).read_bytes() for part in path.split(":")] == [b"first", b"second"]
    assert jars.class_path(quiet, LISTED) == path
    assert repository.downloads() == sorted(FILES)


def test_two_first_starts_at_once_fetch_once(repository: Repository) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = {job.result() for job in [pool.submit(jars.class_path, quiet, LISTED) for _ in range(4)]}
    assert len(paths) == 1
    assert repository.downloads() == sorted(FILES)


def test_a_broken_download_is_tried_again(repository: Repository) -> None:
    first = next(iter(FILES))
    repository.broken[first] = 2
    jars.class_path(quiet, LISTED)
    assert repository.downloads().count(first) == 3


def test_a_refused_download_is_an_error_that_leaves_nothing(repository: Repository) -> None:
    repository.refuse = True
    with pytest.raises(LocalStackError, match=r"\.jar could not be downloaded") as caught:
        jars.class_path(quiet, LISTED)
    assert "127.0.0.1" not in str(caught.value), "a mirror's address may hold a password"
    assert "MYPAY_KAFKA_BOOTSTRAP_SERVERS" in caught.value.hint
    assert cached() == []


def test_content_that_is_not_listed_is_never_accepted(repository: Repository) -> None:
    forged = (Jar(LISTED[0].path, "0" * 64), LISTED[1])
    with pytest.raises(LocalStackError, match="its content is not the listed one"):
        jars.class_path(quiet, forged)
    assert cached() == []


def test_the_users_own_maven_repository_is_used_when_it_agrees(repository: Repository, tmp_path: Path) -> None:
    for jar, body in zip(LISTED, (b"first", b"forged"), strict=True):
        (tmp_path / "m2" / jar.path).parent.mkdir(parents=True)
        (tmp_path / "m2" / jar.path).write_bytes(body)
    jars.class_path(quiet, LISTED)
    assert repository.downloads() == [str(PurePosixPath("/") / LISTED[1].path)]


def test_what_a_killed_download_left_is_cleared_away(repository: Repository) -> None:
    jars.class_path(quiet, LISTED)
    (done,) = cached()
    leftover = done.with_name(f"{done.name}.abc.part")
    done.rename(leftover)
    jars.class_path(quiet, LISTED)
    assert cached() == [done]


@pytest.mark.parametrize("harm", ["missing", "changed", "unexpected"])
def test_a_cache_that_differs_from_the_list_is_an_error(harm: str, repository: Repository) -> None:
    jars.class_path(quiet, LISTED)
    (directory,) = cached()
    victim = directory / LISTED[0].path
    if harm == "missing":
        victim.unlink()
    elif harm == "changed":
        victim.write_bytes(b"fourth")
    else:
        victim = victim.with_name("evil.jar")
        victim.touch()
    with pytest.raises(LocalStackError, match=victim.name) as caught:
        jars.class_path(quiet, LISTED)
    assert str(directory) in caught.value.hint
