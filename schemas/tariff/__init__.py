"""Time-of-use programs as documents that people write: read, checked, explained, compiled.

::

    text (TOML, JSON) ──reading──> TariffDocument + findings, each with its line
                                        │
                        ┌───────────────┼──────────────────┐
                     explain          picture           compile
                  (what counts when) (a year)   (calendar: tables as meters have them)
"""
