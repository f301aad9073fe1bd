"""Twenty-two invented shops in Korea, as a merchant directory would list them."""

from typing import Final, NamedTuple

from gateway.directory.merchants import Merchant
from gateway.network.exchange import Acceptor
from schemas.primitives import MerchantId, NetworkId


class Shop(NamedTuple):
    """A shop and what people usually pay there.

    Attributes:
        mcc: ISO 18245 category.
        won_min, won_max: usual amounts, in hundreds of won.
    """

    merchant_id: str
    name: str
    city: str
    mcc: str
    won_min: int
    won_max: int


SHOPS: Final[tuple[Shop, ...]] = (
    Shop("m-haneul-coffee", "Haneul Coffee Seongsu", "Seoul", "5814", 32, 95),
    Shop("m-dalbit-bakery", "Dalbit Bakery", "Seoul", "5462", 25, 180),
    Shop("m-jangteo-mart", "Jangteo Mart Mangwon", "Seoul", "5411", 80, 900),
    Shop("m-hanok-bibimbap", "Hanok Bibimbap Jeonju", "Jeonju", "5812", 95, 420),
    Shop("m-gukbap-alley", "Gukbap Alley Seomyeon", "Busan", "5812", 90, 270),
    Shop("m-onnuri-pharmacy", "Onnuri Pharmacy", "Daegu", "5912", 35, 330),
    Shop("m-chaek-nara", "Chaek Nara Books", "Paju", "5942", 120, 560),
    Shop("m-byeol-cinema", "Byeol Cinema Gwangju", "Gwangju", "7832", 130, 480),
    Shop("m-nuri-taxi", "Nuri Taxi", "Incheon", "4121", 48, 390),
    Shop("m-dure-bus", "Dure Express Bus", "Daejeon", "4131", 120, 420),
    Shop("m-hanbada-fuel", "Hanbada Fuel Station", "Ulsan", "5541", 300, 1100),
    Shop("m-sorak-stay", "Sorak Mountain Stay", "Sokcho", "7011", 900, 2900),
    Shop("m-jeju-tangerine", "Jeju Tangerine Farm Shop", "Jeju", "5499", 150, 600),
    Shop("m-mirae-electronics", "Mirae Electronics", "Suwon", "5732", 400, 4200),
    Shop("m-ot-gage", "Ot Gage Clothing", "Seoul", "5651", 190, 1600),
    Shop("m-areum-cosmetics", "Areum Cosmetics Myeongdong", "Seoul", "5977", 90, 850),
    Shop("m-meori-salon", "Meori Hair Salon", "Seongnam", "7230", 180, 1300),
    Shop("m-kkot-bang", "Kkot Bang Flowers", "Changwon", "5992", 150, 700),
    Shop("m-geongang-clinic", "Geongang Clinic", "Cheongju", "8011", 60, 900),
    Shop("m-narae-phone-bill", "Narae Phone Bills", "Seoul", "4814", 330, 990),
    Shop("m-lucky-seven", "Lucky Seven Games", "Seoul", "7995", 50, 300),
    Shop("m-yetnal-video", "Yetnal Video Rental", "Wonju", "7841", 20, 60),
)

BLOCKED: Final = "m-lucky-seven"
"""Blocked by every customer's consent."""

CLOSED: Final = "m-yetnal-video"
"""Known, and no longer paid."""

FOOD_CATEGORIES: Final = ("5812", "5814")
OPEN_SHOPS: Final = tuple(s for s in SHOPS if s.merchant_id not in {BLOCKED, CLOSED})
FOOD_SHOPS: Final = tuple(s for s in OPEN_SHOPS if s.mcc in FOOD_CATEGORIES)
OTHER_SHOPS: Final = tuple(s for s in OPEN_SHOPS if s.mcc not in FOOD_CATEGORIES)


def merchants(networks: frozenset[NetworkId]) -> list[Merchant]:
    """The directory's entries; every shop has a contract with every network."""
    return [
        Merchant(
            merchant_id=MerchantId(shop.merchant_id),
            # DE42 is 15 characters, DE43 40: name, city and country in their places.
            acceptor=Acceptor(f"KR{number:013d}", f"{shop.name[:25]:<25}{shop.city[:13]:<13}KR", shop.mcc),
            networks=networks,
            active=shop.merchant_id != CLOSED,
        )
        for number, shop in enumerate(SHOPS, 1)
    ]
