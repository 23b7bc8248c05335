"""Documentation that needs no network: one page that renders /openapi.json."""
