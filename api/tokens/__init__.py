"""API tokens: create, list, revoke. For administrators."""
