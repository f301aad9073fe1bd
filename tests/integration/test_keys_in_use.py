"""`mypay doctor` after the wrong folder of keys was put in place: it names each key that is needed and not here."""

from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from gateway.app.settings import Settings
from gateway.cli.doctor import _keys_in_use
from gateway.directory.funding import SealedToken
from gateway.sealing.sealing import MasterKeys
from schemas.primitives import FundingToken
from tests.support.domain_samples import USE
from tests.support.tokens import put_token

pytestmark = pytest.mark.integration

HOLDER = """
INSERT INTO affiliate (affiliate_id, name, home_group) VALUES ('points', 'Points', 'telecom');
INSERT INTO share_holder (partner_id, consent_id, customer_id, affiliate_id, round, reference, key_ids, since)
VALUES ('p', 'c', 'u', 'points', 1, 'r', '{"{gone}", "{there}"}', now())
"""


async def test_each_key_that_is_needed_and_not_here_is_named_with_what_to_do(
    migrated_database: str, tmp_path: Path
) -> None:
    cards, sharing = tmp_path / "cards", tmp_path / "sharing"
    settings = Settings(
        home=tmp_path,
        postgres_dsn=SecretStr(migrated_database),
        master_keys_dir=cards,
        sharing_keys_dir=sharing,
    )
    card_key, named_by, beside = MasterKeys.create(cards), MasterKeys.create(sharing), MasterKeys.create(sharing)
    token = FundingToken(USE.token)
    await put_token(migrated_database, *USE, sealed=SealedToken(token, None, card_key, b"", b""))
    connection = await asyncpg.connect(migrated_database)
    try:
        await connection.execute(HOLDER.replace("{gone}", named_by).replace("{there}", beside))
    finally:
        await connection.close()
    assert await _keys_in_use(settings) == []
    # As an older folder has them, or one that was filled anew.
    for folder, key_id in ((cards, card_key), (sharing, named_by)):
        (folder / f"{key_id}.key").rename(tmp_path / key_id)
    # Also where there is none at all, and a new one would not help.
    assert [f.subject for f in await _keys_in_use(settings)] == ["cards", "sharing"]
    MasterKeys.create(cards)
    found = await _keys_in_use(settings)
    assert [(f.subject, f.state.value) for f in found] == [("cards", "wrong"), ("sharing", "wrong")]
    assert f"1 cards are under {card_key}" in found[0].detail
    assert [f.todo for f in found] == [f"Put {k}.key back there." for k in (card_key, named_by)]
