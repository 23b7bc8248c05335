"""The rows of a meter import: text into meters and keys, with every error's line and column. No database.

=======================  ================================================================================
column                   meaning
=======================  ================================================================================
``asset_id``             serial number or barcode; required, the meter's name from then on
``model``                meter model, a name of ``schemas/profiles``; required
``address``              link address of the head-end, as ``tcp://10.1.2.3:4059`` (`schemas.address`)
``system_title``         16 hexadecimal digits
``logical_device_name``  as the meter tells it
``feeder``               the feeder that supplies it
``transformer``          the transformer that supplies it
``point``                code of the metering point where it is installed from the import on; made if new
``state``                ``received`` (default), ``installed`` or ``commissioned``: the state it begins in
``encryption_key``       key wrapped under the transport key (AES key wrap), hexadecimal
``authentication_key``   the same
``master_key``           the meter's key-encrypting key; the same
``lls_secret``           password, wrapped with padding (RFC 5649), hexadecimal
``hls_secret``           secret of HLS 3, 4, 6; the same
``..._plain``            these five in plain hexadecimal, ``lls_secret_plain`` as text; only where allowed
=======================  ================================================================================

Empty cells say nothing.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from headend.ingest.csv_table import LineError, Row, read_table
from headend.keys.transport import unwrap
from protocols.dlms.enums import SecuritySuite
from protocols.dlms.security import Key, key_length
from schemas.address import LinkAddress
from schemas.meter import FIRST_STATES, KeyPurpose, MeterState, NewMeter, check_key
from schemas.model import MeterModel, ModelError
from schemas.models import AnyModel, check_address, load_any

T = TypeVar("T")

_WRAPPED: Final = {
    "encryption_key": KeyPurpose.ENCRYPTION,
    "authentication_key": KeyPurpose.AUTHENTICATION,
    "master_key": KeyPurpose.MASTER,
    "lls_secret": KeyPurpose.LLS,
    "hls_secret": KeyPurpose.HLS,
}
_PLAIN: Final = {f"{name}_plain": purpose for name, purpose in _WRAPPED.items()}

#: All columns that a file may have.
COLUMNS: Final = (
    "asset_id", "model", "address", "system_title", "logical_device_name", "feeder", "transformer", "point",
    "state", *_WRAPPED, *_PLAIN,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImportRules:
    """What the import may: open keys wrapped under ``transport``, take plain ones, find models in folders."""

    transport: Key | None = None
    allow_plain_keys: bool = False
    #: False where there is no master key to seal keys with
    can_seal: bool = True
    profile_folders: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class MeterLine:
    """One meter of the file. ``key_columns`` names the column that each key came from."""

    line: int
    meter: NewMeter
    state: MeterState
    point: str | None
    keys: dict[KeyPurpose, Key] = field(default_factory=dict)
    key_columns: dict[KeyPurpose, str] = field(default_factory=dict)


def read_meters(data: bytes, rules: ImportRules) -> tuple[list[MeterLine], list[LineError]]:
    """The meters of a file, and all that is wrong with it. Lines with errors are not among the meters."""
    table = read_table(data, known=COLUMNS, required=("asset_id", "model"))
    errors = list(table.errors)
    refused = _refused_columns(table.headings, rules)
    errors += (LineError(1, column, reason) for column, reason in refused.items())
    lines = []
    for row in table.rows:
        reader = _RowReader(row, rules, refused)
        line = reader.line()
        errors += reader.errors
        if line is not None:
            lines.append(line)
    errors += _doubles(table.rows)
    return lines, sorted(errors)


def _refused_columns(headings: Collection[str], rules: ImportRules) -> dict[str, str]:
    refused = {}
    for name in headings:
        if name in _PLAIN and not rules.allow_plain_keys:
            refused[name] = "plain keys are not allowed: wrap them, or allow plain keys explicitly"
        elif name in _WRAPPED and rules.transport is None:
            refused[name] = "needs the transport key that these keys are wrapped under"
        elif (name in _WRAPPED or name in _PLAIN) and not rules.can_seal:
            refused[name] = "needs the head-end's master key, which seals the meters' keys"
    return refused


class _RowReader:
    """Reads one row, collecting what is wrong with each of its cells."""

    def __init__(self, row: Row, rules: ImportRules, refused: Collection[str]) -> None:
        self._row = row
        self._rules = rules
        self._refused = refused
        self.errors: list[LineError] = []

    def line(self) -> MeterLine | None:
        cells = self._row.cells
        for required in ("asset_id", "model"):
            if required not in cells:
                self._wrong(required, "is empty")
        model = self._convert("model", lambda text: load_any(text, self._rules.profile_folders))
        address = self._convert("address", LinkAddress.parse)
        title = self._convert("system_title", _title)
        state = self._convert("state", _state)
        keys, columns = self._keys()
        if isinstance(model, MeterModel):
            self._check_suite(model.association.suite, keys, columns)
        if model is not None and address is not None:
            self._check_link(model, address)
        if self.errors:
            return None
        meter = NewMeter(
            asset_id=cells["asset_id"],
            model=cells["model"],
            system_title=title,
            logical_device_name=cells.get("logical_device_name"),
            address=None if address is None else str(address),
            feeder=cells.get("feeder"),
            transformer=cells.get("transformer"),
        )
        first = MeterState.RECEIVED if state is None else state
        return MeterLine(self._row.line, meter, first, cells.get("point"), keys, columns)

    def _keys(self) -> tuple[dict[KeyPurpose, Key], dict[KeyPurpose, str]]:
        keys: dict[KeyPurpose, Key] = {}
        columns: dict[KeyPurpose, str] = {}
        for column, purpose in (*_WRAPPED.items(), *_PLAIN.items()):
            if column in self._refused:
                continue
            key = self._convert(column, partial(self._key, column, purpose))
            if key is None:
                continue
            if purpose in keys:
                self._wrong(column, f"is given in {columns[purpose]} too")
            keys[purpose], columns[purpose] = key, column
        return keys, columns

    def _check_suite(self, suite: int, keys: dict[KeyPurpose, Key], columns: dict[KeyPurpose, str]) -> None:
        """A key of the wrong length would only show at the first association, in the night."""
        wanted = key_length(SecuritySuite(suite))
        for purpose in (KeyPurpose.ENCRYPTION, KeyPurpose.AUTHENTICATION):
            if purpose in keys and len(keys[purpose]) != wanted:
                self._wrong(
                    columns[purpose],
                    f"has {len(keys[purpose])} bytes, the model's suite {suite} takes {wanted}",
                )

    def _check_link(self, model: AnyModel, address: LinkAddress) -> None:
        try:
            check_address(model, address)
        except ModelError as error:
            self._wrong("address", str(error))

    def _key(self, column: str, purpose: KeyPurpose, text: str) -> Key:
        if column == "lls_secret_plain":
            raw = text.encode()
        else:
            try:
                raw = bytes.fromhex(text)
            except ValueError:  # its message would repeat a part of the key
                raise ValueError("is not hexadecimal digits") from None
        if column in _PLAIN:
            check_key(purpose, raw)
            return Key(raw)
        if self._rules.transport is None:
            raise ValueError("needs the transport key")
        return unwrap(purpose, raw, self._rules.transport)

    def _convert(self, column: str, convert: Callable[[str], T]) -> T | None:
        """The converted cell; None where it is empty, or wrong, which is noted."""
        text = self._row.cells.get(column)
        if text is None:
            return None
        try:
            return convert(text)
        except ValueError as error:
            self._wrong(column, str(error))
            return None

    def _wrong(self, column: str, reason: str) -> None:
        self.errors.append(LineError(self._row.line, column, reason))


def _title(text: str) -> bytes:
    try:
        title = bytes.fromhex(text)
    except ValueError:
        title = b""
    if len(title) != 8:
        raise ValueError("must be 16 hexadecimal digits")
    return title


def _state(text: str) -> MeterState:
    if text not in FIRST_STATES:
        raise ValueError(f"must be one of {', '.join(FIRST_STATES)}")
    return MeterState(text)


def _doubles(rows: Sequence[Row]) -> list[LineError]:
    """What may be in the file once only, but is there again; among all rows, wrong ones too."""
    errors = []
    for column in ("asset_id", "system_title", "logical_device_name", "point"):
        seen: dict[str, int] = {}
        for row in rows:
            text = row.cells.get(column)
            if text is None:
                continue
            if column == "system_title":
                text = text.upper().replace(" ", "")
            first = seen.setdefault(text, row.line)
            if first != row.line:
                errors.append(LineError(row.line, column, f"is the same as in line {first}"))
    return errors
