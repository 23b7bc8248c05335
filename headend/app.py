"""The composition root: everything the service is made of, opened in order and closed in reverse."""
