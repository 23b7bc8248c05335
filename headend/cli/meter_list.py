"""Lists of meters in files: CSV with a column asset_id."""

from pathlib import Path
from typing import Final

from headend.cli.terminal import CommandError
from headend.ingest.csv_table import read_table

_COLUMN: Final = "asset_id"
_MOST_TOLD: Final = 20


def meter_list(file: Path) -> list[str]:
    """Asset ids of a file. Raises CommandError with every line that is wrong."""
    table = read_table(file.read_bytes(), known={_COLUMN}, required={_COLUMN})
    wrong = [str(error) for error in table.errors]
    wrong += [f"line {row.line}: no asset id" for row in table.rows if _COLUMN not in row.cells]
    if wrong:
        more = [f"and {len(wrong) - _MOST_TOLD} more"] if len(wrong) > _MOST_TOLD else []
        raise CommandError("\n  ".join([f"{file} cannot be used:", *wrong[:_MOST_TOLD], *more]))
    return [row.cells[_COLUMN] for row in table.rows]
