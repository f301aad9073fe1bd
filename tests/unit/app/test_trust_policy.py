"""Which trust policy counts: no silence about proofs, one policy in all processes, no misspelt setting."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.app.environment import UnknownSettingError, read_settings, unknown_settings
from gateway.app.errors import NotConfiguredError
from gateway.app.policy import JUDGING, digest_of, read_policy
from gateway.app.settings import OTHER_VARIABLES, Settings
from gateway.base.errors import StoreUnavailableError
from gateway.identity.jose.issuers import CachedTrustTable, PolicyNotAppliedError
from gateway.identity.jose.trust_files import policy_digest, read_trust_files
from gateway.identity.no_providers import NoProofWhileItCounts
from gateway.identity.rules import Accepted, judge_consent_assertion, judge_payment_assertion
from gateway.observability.recording import RecordingObserver
from gateway.proving.counterparts.idp.run import write_trust_files
from schemas.primitives import CustomerId
from tests.support.assertion_samples import CONSENT_LINK, provider
from tests.support.builders import NOW, numbered_order

URL = "http://127.0.0.1:8590"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_trust_files(tmp_path / "issuers", {"telecom": provider("telecom"), "financial": provider()}, URL)
    return tmp_path / "issuers"


# --- silence is no permission ---


def test_without_providers_a_process_must_be_told_to_ask_for_no_proof(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotConfiguredError, match=r"MYPAY_ISSUERS_DIR is not set.*MYPAY_ALLOW_NO_PROOF=1"):
        read_policy(Settings(issuers_dir=None))
    assert read_policy(Settings(issuers_dir=None, allow_no_proof=True)) is None
    with pytest.raises(NotConfiguredError, match="both set"):
        read_policy(Settings(issuers_dir=folder, allow_no_proof=True))
    assert read_policy(Settings(issuers_dir=folder)) is not None


@pytest.mark.parametrize("what", ["missing", "empty", "no issuer", "no policy", "a slip in a member"])
def test_a_folder_that_says_nothing_is_refused(folder: Path, what: str) -> None:
    match what:
        case "missing":
            folder = folder.with_name("isuers")
        case "empty":
            for file in folder.iterdir():
                file.unlink()
        case "no issuer":
            (folder / "telecom.toml").unlink()
            (folder / "financial.toml").unlink()
        case "no policy":
            (folder / "policy.toml").unlink()
        case _:
            text = (folder / "policy.toml").read_text()
            (folder / "policy.toml").write_text(text.replace("[methods]", "[method]"))
    with pytest.raises(NotConfiguredError, match="MYPAY_ISSUERS_DIR"):
        read_policy(Settings(issuers_dir=folder))


def test_every_stage_that_judges_proofs_is_asked() -> None:
    assert {"initiation", "consents", "execution", "portability"} == JUDGING


# --- one policy in all processes ---


def edited(folder: Path, file: str, old: str, new: str) -> str:
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    return digest_of(Settings(issuers_dir=folder))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("policy.toml", "level = 2", "level = 1"),
        ("policy.toml", '"300000"', '"300001"'),
        ("policy.toml", "max_age_seconds = 600", "max_age_seconds = 601"),
        ("policy.toml", "hwk = 3", "hwk = 2"),
        ("policy.toml", "hwk = 3", "hwk = 3\nsms = 3"),
        ("policy.toml", "max_count = 5", "max_count = 6"),
        ("policy.toml", '"150000"', '"150001"'),
        ("telecom.toml", '"urn:mypay:telecom:sms" = 1', '"urn:mypay:telecom:sms" = 3'),
        ("telecom.toml", URL, "https://elsewhere.example"),
        ("telecom.toml", 'audience = "', 'audience = "x'),
        ("telecom.toml", 'issuer = "', 'issuer = "x'),
        ("telecom.toml", 'group = "telecom"', 'group = "financial"'),
        ("telecom.toml", '["ES256"]', '["Ed25519"]'),
        ("telecom.toml", "refresh_seconds = 1", 'refresh_seconds = 1\noperations = ["payment"]'),
    ],
)
def test_whatever_is_trusted_or_asked_for_is_part_of_the_digest(folder: Path, file: str, old: str, new: str) -> None:
    before = digest_of(Settings(issuers_dir=folder))
    assert edited(folder, file, old, new) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("telecom.toml", "refresh_seconds = 1", "refresh_seconds = 9"),
        ("telecom.toml", "refresh_seconds = 1", 'refresh_seconds = 1\nrevoked_kids = ["k"]'),
        ("telecom.toml", "refresh_seconds = 1", "\n# a remark\nrefresh_seconds = 1"),
        ("telecom.toml", '["ES256"]', '["ES256", "ES256"]'),
    ],
)
def test_what_decides_nothing_is_not(folder: Path, file: str, old: str, new: str) -> None:
    before = digest_of(Settings(issuers_dir=folder))
    assert edited(folder, file, old, new) == before


def test_asking_for_no_proof_is_a_policy_of_its_own(folder: Path) -> None:
    assert digest_of(Settings(allow_no_proof=True)) == policy_digest(None)
    assert digest_of(Settings(issuers_dir=folder)) != policy_digest(None)


def applied(holder: list[str | None]) -> Callable[[], Awaitable[str | None]]:
    async def read() -> str | None:
        return holder[0]

    return read


@pytest.mark.parametrize("counts", [None, "ab" * 32, policy_digest(None)])
async def test_a_process_with_another_policy_than_the_one_that_counts_does_not_start(
    folder: Path, counts: str | None
) -> None:
    table = CachedTrustTable(folder, RecordingObserver(), applied=applied([counts]))
    with pytest.raises(PolicyNotAppliedError):
        await table.start()
    await table.stop()


async def test_a_running_process_takes_a_policy_up_once_it_counts(folder: Path) -> None:
    holder: list[str | None] = [digest_of(Settings(issuers_dir=folder))]
    observer = RecordingObserver()
    table = CachedTrustTable(folder, observer, applied=applied(holder))
    await table.load()
    before = table.policy
    weaker = edited(folder, "policy.toml", "hwk = 3", "hwk = 3\nsms = 3")
    for _ in range(2):
        await table.refresh()
    assert table.policy == before
    assert observer.counted("trust_table", "policy_not_applied") == 1
    assert observer.levels["trust_policy_differs"] == 1.0
    holder[0] = weaker
    await table.refresh()
    assert table.policy.methods == {**before.methods, "sms": 3}
    assert observer.levels["trust_policy_differs"] == 0.0
    await table.stop()


async def test_a_running_process_that_asks_for_no_proof_lets_nothing_pass_once_another_policy_counts() -> None:
    counts: list[bool | Exception] = [True]

    async def read() -> bool:
        if isinstance(counts[0], Exception):
            raise counts[0]
        return counts[0]

    observer = RecordingObserver()
    trust = NoProofWhileItCounts(read, observer)

    async def judged() -> set[str]:
        await trust.look()
        payment = judge_payment_assertion(
            None,
            order=numbered_order(1),
            customer_id=CustomerId("c"),
            linked=None,
            issuer=None,
            policy=trust.policy,
            exempt=True,
            now=NOW,
        )
        grant = judge_consent_assertion(
            None,
            link=CONSENT_LINK,
            customer_id=CustomerId("c"),
            linked=None,
            issuer=None,
            policy=trust.policy,
            now=NOW,
        )
        return {"passes" if isinstance(j, Accepted) else j.code.value for j in (payment, grant)}

    assert await judged() == {"passes"}
    counts[0] = False
    assert [await judged() for _ in range(2)] == [{"DS0G"}, {"DS0G"}]
    assert observer.counted("trust_table", "policy_not_applied") == 1
    assert observer.levels["trust_policy_differs"] == 1.0
    # Without news the last answer stands, whichever it was.
    counts[0] = StoreUnavailableError("away")
    assert await judged() == {"DS0G"}
    counts[0] = True
    assert await judged() == {"passes"}
    assert observer.levels["trust_policy_differs"] == 0.0


async def test_what_revokes_a_key_counts_at_once_also_in_files_that_do_not(folder: Path) -> None:
    holder: list[str | None] = [digest_of(Settings(issuers_dir=folder))]
    table = CachedTrustTable(folder, RecordingObserver(), applied=applied(holder))
    await table.load()
    edited(folder, "telecom.toml", "refresh_seconds = 1", 'refresh_seconds = 1\nrevoked_kids = ["k"]')
    edited(folder, "telecom.toml", '"urn:mypay:telecom:sms" = 1', '"urn:mypay:telecom:sms" = 3')
    await table.refresh()
    source = table._sources[provider("telecom").issuer]
    assert source.file.revoked_kids == {"k"}
    assert source.entry.levels["urn:mypay:telecom:sms"] == 1
    await table.stop()


# --- misspelt settings ---


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("MYPAY_ISSUER_DIR", "MYPAY_ISSUER_DIR is no setting: did you mean MYPAY_ISSUERS_DIR?"),
        ("mypay_issuers_dirr", "MYPAY_ISSUERS_DIRR is no setting: did you mean MYPAY_ISSUERS_DIR?"),
        ("MYPAY_ALLOW_NOPROOF", "MYPAY_ALLOW_NOPROOF is no setting: did you mean MYPAY_ALLOW_NO_PROOF?"),
        ("MYPAY_SOMETHING_ELSE", "MYPAY_SOMETHING_ELSE is no setting"),
        ("MYPAY_", "MYPAY_ is no setting"),
    ],
)
def test_a_variable_that_is_no_setting_is_told_by_name(name: str, told: str) -> None:
    assert unknown_settings([name, "PATH", "MYPAYX", "MYPAY_HOME"]) == [told]


def test_every_setting_and_what_single_commands_read_is_known() -> None:
    known = [f"MYPAY_{field.upper()}" for field in Settings.model_fields]
    assert unknown_settings([*known, *OTHER_VARIABLES, "mypay_home"]) == []


def test_the_environment_and_the_file_are_both_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings().stack
    (tmp_path / ".env").write_text("MYPAY_LOG_LEVLE=debug\nOTHER=1\n")
    with pytest.raises(UnknownSettingError, match="did you mean MYPAY_LOG_LEVEL"):
        read_settings()
    (tmp_path / ".env").unlink()
    monkeypatch.setenv("MYPAY_ISSUER_DIR", "s3cr3t")
    with pytest.raises(UnknownSettingError) as told:
        read_settings()
    assert "s3cr3t" not in str(told.value)


def test_the_deployed_policy_can_be_read() -> None:
    files: Any = read_trust_files(Path(__file__).parents[3] / "deploy" / "issuers")
    assert files.policy.exemptions["KRW"].max_amount_minor == 50_000
    assert files.policy.methods["hwk"] == 3
