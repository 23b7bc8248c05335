"""A clock that a file moves: for processes of the service, for PostgreSQL, and for who tests them.

``python shifted.py FILE ARGUMENTS...`` runs the command ``headend`` by it. The file holds how many
microseconds the clock is ahead of the real one.
"""

import mmap
import struct
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

_FORMAT = struct.Struct("<q")

#: In PostgreSQL the functions of this schema are found before its own; what columns take by default as well.
SHADOW = """
CREATE SCHEMA shadow;
CREATE TABLE shadow.ahead (by interval NOT NULL);
INSERT INTO shadow.ahead VALUES ('0');
CREATE FUNCTION shadow.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.clock_timestamp() + by FROM shadow.ahead';
CREATE FUNCTION shadow.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT pg_catalog.now() + by FROM shadow.ahead';
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT table_name, column_name, column_default FROM information_schema.columns
                WHERE table_schema = 'public' AND column_default IN ('now()', 'clock_timestamp()')
                  AND table_name NOT LIKE 'procrastinate%'
    LOOP
        EXECUTE format('ALTER TABLE %I ALTER %I SET DEFAULT shadow.%s', one.table_name, one.column_name,
                       one.column_default);
    END LOOP;
    EXECUTE format('ALTER DATABASE %I SET search_path = public, shadow, pg_catalog', current_database());
END
$$;
"""


class Shift:
    """How far ahead of the real clock it is; what one process writes, all others see at once."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_FORMAT.pack(0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FORMAT.size)

    @property
    def ahead(self) -> timedelta:
        return timedelta(microseconds=_FORMAT.unpack(self._map[:])[0])

    @ahead.setter
    def ahead(self, by: timedelta) -> None:
        self._map[:] = _FORMAT.pack(by // timedelta(microseconds=1))

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


if __name__ == "__main__":
    import headend.clock

    # before anything else of ours is imported: the others take the name from there
    headend.clock.utc_now = Shift(Path(sys.argv[1])).now
    from headend.cli.main import app

    sys.argv[1:] = sys.argv[2:]
    app(prog_name="headend")
