"""A switch that nobody of this project wrote: it reads and writes the bytes of its own manual, and shares no code.

Its manual, as in deploy/networks/examples/switch.toml: a length of four packed digits that counts itself; MTI and
fields in ASCII behind a binary bitmap; DE4 packed; DE55 as raw bytes behind three digits; DE24 always 841; texts in
EUC-KR. It stamps its own time into DE7 of its answers and leaves DE41 out.
"""

import asyncio
from dataclasses import dataclass, field

FIXED = {3: 6, 7: 10, 11: 6, 12: 6, 13: 4, 14: 4, 18: 4, 22: 3, 24: 3, 25: 2, 37: 12, 38: 6, 39: 2, 41: 8, 42: 15}
FIXED |= {43: 40, 49: 3, 70: 3, 90: 42}
PREFIXED = {2: 2, 32: 2, 44: 2, 48: 3, 55: 3, 63: 3}
PACKED_AMOUNT = 4
OWN_TIME = b"0102030405"
CHIP = bytes.fromhex("9f2608a1b2c3d4e5f60718820200009f36020001")


def cut(message: bytes) -> tuple[bytes, dict[int, bytes]]:
    """One message without its length."""
    mti, at = message[:4], 12
    bits = int.from_bytes(message[4:12], "big")
    numbers = [n for n in range(2, 65) if bits >> (64 - n) & 1]
    if bits >> 63:
        more = int.from_bytes(message[12:20], "big")
        numbers += [64 + n for n in range(1, 65) if more >> (64 - n) & 1]
        at = 20
    fields: dict[int, bytes] = {}
    for number in numbers:
        if number == PACKED_AMOUNT:
            fields[number], at = message[at : at + 6].hex().encode(), at + 6
        elif number in FIXED:
            fields[number], at = message[at : at + FIXED[number]], at + FIXED[number]
        else:
            start = at + PREFIXED[number]
            length = int(message[at:start])
            fields[number], at = message[start : start + length], start + length
    assert at == len(message), (mti, numbers)
    return mti, fields


def put(mti: bytes, fields: dict[int, bytes]) -> bytes:
    """One message with its length in front."""
    bits, more, body = 0, 0, b""
    for number in sorted(fields):
        value = fields[number]
        if number <= 64:
            bits |= 1 << (64 - number)
        else:
            bits |= 1 << 63
            more |= 1 << (128 - number)
        if number == PACKED_AMOUNT:
            body += bytes.fromhex(value.decode())
        elif number in FIXED:
            assert len(value) == FIXED[number], number
            body += value
        else:
            body += str(len(value)).zfill(PREFIXED[number]).encode() + value
    message = mti + bits.to_bytes(8, "big") + (more.to_bytes(8, "big") if more else b"") + body
    return bytes.fromhex(str(len(message) + 2).zfill(4)) + message


@dataclass
class Switch:
    """Attributes: seen: every message in order; booked: RRN → minor units that stand."""

    seen: list[tuple[bytes, dict[int, bytes]]] = field(default_factory=list)
    booked: dict[bytes, int] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int((await reader.readexactly(2)).hex())
                mti, fields = cut(await reader.readexactly(length - 2))
                self.seen.append((mti, fields))
                answer = self.answer(mti, fields)
                if answer is not None:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, mti: bytes, fields: dict[int, bytes]) -> bytes | None:
        if mti == b"0800":
            return put(b"0810", {7: OWN_TIME, 11: fields[11], 24: fields[24], 39: b"00", 70: fields[70]})
        if fields.get(24) != b"841":
            return None
        code, approval = self.decide(mti, fields)
        echoed = {number: fields[number] for number in (3, 4, 11, 24, 37, 42, 49)}
        more = {7: OWN_TIME, 39: code, 44: "승인\t처리".encode("euc-kr"), 55: CHIP, 63: b"A\x1cB"}
        if approval:
            more[38] = approval
        return put(mti[:2] + b"10" if mti[2:3] == b"0" else mti[:2] + b"30", echoed | more)

    def decide(self, mti: bytes, fields: dict[int, bytes]) -> tuple[bytes, bytes | None]:
        rrn, amount = fields[37], int(fields[4])
        if mti == b"0200":
            # The last two digits of the amount say what it answers; it books whatever is no refusal.
            code = fields[4][-2:]
            if code in {b"51", b"N7"}:
                return code, None
            self.booked[rrn] = amount if fields[3] == b"003000" else -amount
            return code, b"SW0001" if code == b"00" else None
        if mti == b"0100":
            return (b"00", b"SW0001") if rrn in self.booked else (b"25", None)
        return (b"00", None) if self.booked.pop(rrn, None) is not None else (b"25", None)
