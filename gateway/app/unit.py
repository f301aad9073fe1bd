"""Every room's stores in one transaction: what a database hands out of which each use case names its part."""

from typing import Protocol

from gateway.consents.store import ConsentUnit
from gateway.directory.store import DirectoryUnit
from gateway.disclosure.destroying import OldRowsUnit
from gateway.disclosure.store import DisclosureUnit
from gateway.identity.refusals import RefusalUnit
from gateway.identity.store import AuthenticationUnit
from gateway.marketing.store import MarketingStoreUnit
from gateway.orders.store import BulkUnit, ScheduleUnit, StandingUnit
from gateway.outbox.store import OutboxUnit
from gateway.payments.archive.store import ArchiveUnit
from gateway.payments.cancellations.store import CancellationUnit
from gateway.payments.store import PaymentUnit
from gateway.payments.unknown.store import FollowUpUnit
from gateway.portability.api.store import PullDataUnit
from gateway.portability.store import PortabilityDataUnit
from gateway.settlement.store import ClearingUnit
from gateway.sharing.store import SharingStoreUnit


class GatewayUnit(
    ClearingUnit,
    StandingUnit,
    ScheduleUnit,
    BulkUnit,
    PaymentUnit,
    ArchiveUnit,
    CancellationUnit,
    FollowUpUnit,
    ConsentUnit,
    RefusalUnit,
    AuthenticationUnit,
    DisclosureUnit,
    OldRowsUnit,
    OutboxUnit,
    DirectoryUnit,
    PortabilityDataUnit,
    SharingStoreUnit,
    MarketingStoreUnit,
    PullDataUnit,
    Protocol,
):
    """One transaction with every store. A service that is given its database may touch what its own unit names."""
