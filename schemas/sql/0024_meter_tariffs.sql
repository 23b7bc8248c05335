-- Which tariff program a meter had from when to when: billing asks.
-- depends: 0020_programs

-- Calendars as meters were read to have them, each once: thousands of meters have the same.
CREATE TABLE tariff_calendars (
    calendar_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      bytea NOT NULL UNIQUE,                  -- SHA-256 of the content in its canonical form
    name        text NOT NULL,
    content     jsonb NOT NULL                          -- schemas.tariff.calendar: calendar and special days
);

CREATE TABLE meter_tariffs (
    meter_id    integer NOT NULL REFERENCES meters ON DELETE CASCADE,
    during      tstzrange NOT NULL,                     -- open above: it has it now
    calendar_id bigint NOT NULL REFERENCES tariff_calendars,
    campaign_id bigint,                                 -- which brought it; NULL: found in the meter, not ours
    is_exact    boolean NOT NULL,                       -- false: it was found then, and there before
    EXCLUDE USING gist (meter_id WITH =, during WITH &&),
    CHECK (NOT isempty(during) AND NOT lower_inf(during))
);
