"""E-mail addresses and public IP addresses replaced by ones that are nobody's, as FineWeb does it.

Mail      local part and domain of two labels or more; a domain in brackets too
IP        IPv4, four numbers up to 255, not in a range kept for special use (private, loopback, documentation ...); a
          number with a leading zero (01.2.3.4) is no address
Choice    a hash of `id` picks the replacement of a document's first address, the others take the next ones in turn, mail
          and IP apart. What is a replacement already stays and is not counted, so a second pass changes nothing.
Paper     Penedo et al. 2024 (FineWeb), arXiv:2406.17557, section 3.7
Reads     text                    large_string (n,), nulls allowed
          id                      string
Writes    text                    edited; null stays null
          pii_mask_removed_chars  int32 (n,): characters taken away, below 0 where the text grew; null where null
          pii_mask_num_emails     int32 (n,): addresses replaced; null where the text is null
          pii_mask_num_ips        int32 (n,)
          pii_mask_original       large_string (n,): the text as it was; only with `keep_original: true`
Rows      all kept, in order
Differs   from datatrove's PIIFormatter, whose addresses these are: its replacements go round from document to document,
          so they depend on the order; it replaces its own replacements once more; an IP address is not sought across
          the edge of a replaced mail address; ranges are those of the IANA registry as of 2024, whatever the Python
Not       names, telephone numbers, IPv6, addresses written "at" and "dot"
Fails     ConfigError for an empty list of replacements
"""

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.errors import ConfigError
from curate.schema import text_buffers
from curate.stage import stage
from curate.stages import _edits

# What is not "globally reachable" in IANA's IPv4 Special-Purpose Address Registry, and the block kept for the future.
PRIVATE = (
    ("0.0.0.0", "0.255.255.255"), ("10.0.0.0", "10.255.255.255"), ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"), ("169.254.0.0", "169.254.255.255"), ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.8"), ("192.0.0.11", "192.0.0.255"), ("192.0.2.0", "192.0.2.255"),
    ("192.168.0.0", "192.168.255.255"), ("198.18.0.0", "198.19.255.255"), ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"), ("240.0.0.0", "255.255.255.255"),
)  # fmt: skip

# datatrove's: names kept for examples, and addresses that answered nobody when FineWeb was made.
_MAILS = ("email@example.com", "firstname.lastname@example.org")
_IPS = (
    "22.214.171.124",
    "126.96.36.199",
    "188.8.131.52",
    "184.108.40.206",
    "220.127.116.11",
    "18.104.22.168",
)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to replace, and by what."""

    emails: bool = True  # replace e-mail addresses
    ips: bool = True  # replace public IP addresses
    email_replacements: tuple[str, ...] = _MAILS  # what stands for an e-mail address
    ip_replacements: tuple[str, ...] = _IPS  # what stands for an IP address
    keep_original: bool = False  # keep the old text in `pii_mask_original`

    def __post_init__(self) -> None:
        for field in ("email_replacements", "ip_replacements"):
            if not getattr(self, field):
                raise ConfigError(
                    f"`{field}` is empty",
                    hint='leave it out, or give one: ["<address>"]; [""] takes addresses out',
                )


def _writes(config: Config) -> dict[str, pa.DataType]:
    columns = _edits.writes("pii_mask", keep_original=config.keep_original)
    return columns | {"pii_mask_num_emails": pa.int32(), "pii_mask_num_ips": pa.int32()}


@stage(
    "pii_mask", version=1, config=Config, reads=["text", "id"], writes=_writes, libraries=["xxhash"], rare=True
)  # fmt: skip
def pii_mask(batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
    """Replace addresses; rows without one are not even decoded."""
    from curate.kernels.addresses import IP, MAIL, find_addresses

    old = batch["text"].cast(pa.large_string())
    data, offsets = text_buffers(old)
    found = find_addresses(data, offsets, _private(), config.emails, config.ips)
    rows, spans = _by_row(found)
    num = np.zeros((2, batch.num_rows), np.int64)
    masked: list[bytes] = []
    replacements = {MAIL: _encoded(config.email_replacements), IP: _encoded(config.ip_replacements)}
    for row, some in zip(rows.tolist(), spans, strict=True):
        document = data[offsets[row] : offsets[row + 1]].tobytes()
        start = xxhash.xxh3_64_intdigest(batch["id"][row].as_py() or "")
        text, *num[:, row] = _mask(document, some - [0, offsets[row], offsets[row], 0], replacements, start)
        masked.append(text)
    new = _replaced(old, rows, masked)
    counts = {"num_emails": num[0], "num_ips": num[1]}
    return _edits.edit(batch, "pii_mask", new, counts, keep_original=config.keep_original)


def _private() -> npt.NDArray[np.int64]:
    return np.array([[_number(first), _number(last)] for first, last in PRIVATE], np.int64)


def _number(address: str) -> int:
    return int.from_bytes(bytes(map(int, address.split("."))))


def _encoded(texts: tuple[str, ...]) -> list[bytes]:
    return [text.encode() for text in texts]


def _by_row(found: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
    """Rows with addresses, and the addresses of each in the order of the text."""
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    rows, first = np.unique(found[:, 0], return_index=True)
    return rows, np.split(found, first[1:]) if len(rows) else []


def _mask(
    document: bytes, spans: npt.NDArray[np.int64], replacements: dict[int, list[bytes]], start: int
) -> tuple[bytes, int, int]:
    """(the text masked, mail addresses replaced, IP addresses replaced)."""
    from curate.kernels.addresses import IP, MAIL

    pieces: list[bytes] = []
    at, num = 0, [0, 0]
    for _, begin, end, kind in spans.tolist():
        choice = replacements[kind]
        if document[begin:end] in choice:
            continue
        pieces += [document[at:begin], choice[(start + num[kind]) % len(choice)]]
        at = end
        num[kind] += 1
    return b"".join([*pieces, document[at:]]), num[MAIL], num[IP]


def _replaced(old: pa.Array, rows: npt.NDArray[np.int64], masked: list[bytes]) -> pa.Array:
    if not masked:
        return old
    mask = np.zeros(len(old), bool)
    mask[rows] = True
    return pc.replace_with_mask(
        old, pa.array(mask), pa.array(masked, pa.large_binary()).cast(pa.large_string())
    )
