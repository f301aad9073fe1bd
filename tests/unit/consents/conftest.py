import pytest

from tests.support.consents import ConsentRig


@pytest.fixture
def rig() -> ConsentRig:
    return ConsentRig()
