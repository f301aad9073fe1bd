"""What is remembered of commands under ids that may never change: a proof is used up under one of them."""

from uuid import UUID

from gateway.consents.rules.consent import ConsentCommand
from gateway.consents.rules.records import ReceivedCommand
from schemas.primitives import ConsentId, PartnerId
from tests.support.domain_samples import NOW


def test_the_id_that_a_command_uses_a_proof_up_under_never_changes() -> None:
    command = ReceivedCommand(PartnerId("p"), ConsentId("c"), "x", ConsentCommand.GRANT, NOW, b"", "r")
    assert command.used_by == UUID("fcaf4267-55ac-56c3-9b00-4adae80d6193")
