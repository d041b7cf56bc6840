"""Write rows of usage as CSV or Parquet, piece by piece, in memory of a limited size."""

from __future__ import annotations

import csv
import datetime
import importlib
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol

from headgate.kit.errors import HeadgateError, Kind
from headgate.metering.model.usage_table import AMOUNTS, COUNTS, LATENCIES, TIMES

ExportFormat = Literal["csv", "parquet"]
MEDIA_TYPES: dict[ExportFormat, str] = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The characters with which a spreadsheet begins a formula."""


class ExportNotInstalledError(HeadgateError):
    """Parquet needs an optional package that is not installed.

    Install `headgate[export]`, or export CSV.
    """

    kind = Kind.UNSUPPORTED
    code = "extra_missing"


class Encoder(Protocol):
    """Encode a table. What each method returns follows what was returned before."""

    def add(self, rows: Sequence[Sequence[Any]]) -> bytes: ...

    def end(self) -> bytes: ...


def open_encoder(export_format: ExportFormat, columns: Sequence[str], *, zone: str) -> Encoder:
    """Return an encoder for these columns. Raise `ExportNotInstalledError`."""
    if export_format == "csv":
        return CsvEncoder(columns)
    return ParquetEncoder(columns, zone)


class CsvEncoder:
    """Encode CSV as RFC 4180 describes it, in UTF-8, with the names of the columns in front."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns: Sequence[str] | None = columns

    def add(self, rows: Sequence[Sequence[Any]]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        if self._columns is not None:
            writer.writerow(self._columns)
            self._columns = None
        writer.writerows([_to_text(value) for value in row] for row in rows)
        return text.getvalue().encode()

    def end(self) -> bytes:
        return self.add([])


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # A caller chooses model names and metadata: a spreadsheet must not run them.
        return f"'{value}" if value.startswith(_FORMULA) else value
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


class ParquetEncoder:
    """Encode Parquet with a row group for each `add`. Amounts are exact decimals."""

    def __init__(self, columns: Sequence[str], zone: str) -> None:
        try:
            arrow: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            message = (
                "Parquet is not installed; add it: pip install 'headgate[export]'. Or use CSV."
            )
            raise ExportNotInstalledError(message) from error
        self._arrow = arrow
        self._schema = arrow.schema([(name, self._find_type(name, zone)) for name in columns])
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(
            arrow.PythonFile(self._sink, mode="w"), self._schema, compression="zstd"
        )

    def add(self, rows: Sequence[Sequence[Any]]) -> bytes:
        if rows:
            arrow = self._arrow
            columns = [
                arrow.array(values, type=field.type)
                for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(arrow.Table.from_arrays(columns, schema=self._schema))
        return self._sink.take()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.take()

    def _find_type(self, name: str, zone: str) -> Any:
        arrow = self._arrow
        if name in TIMES:
            return arrow.timestamp("us", tz=zone)
        if name in COUNTS:
            return arrow.int64()
        if name in AMOUNTS:
            return arrow.decimal128(38, 9)
        if name in LATENCIES:
            return arrow.float64()
        return arrow.bool_() if name == "managed" else arrow.string()


class _Sink(io.RawIOBase):
    """Collect what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        data = bytes(piece)
        self._pieces.append(data)
        self._length += len(data)
        return len(data)

    def tell(self) -> int:
        return self._length

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken
