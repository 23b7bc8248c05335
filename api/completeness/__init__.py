"""How complete load curves are, what is missing and why, the gap ledger, reports of nights."""
