"""One of several processes of a host keeps to its share of what the settings allow the host."""

from schemas.config import Settings


def share(settings: Settings, of: int) -> Settings:
    """The settings of one of ``of`` processes: conversations at once are divided, at least one for each.

    What is behind one station or on one line is one lane, so in one process: those limits stay. Raises
    ValueError for less than one process.
    """
    if of < 1:
        raise ValueError(f"{of} processes are none")
    return settings.model_copy(
        update={
            "collector_concurrency": _part(settings.collector_concurrency, of),
            "permits_cell": _part(settings.permits_cell, of),
            "permits_links": {kind: _part(most, of) for kind, most in settings.permits_links.items()},
        }
    )


def _part(whole: int, of: int) -> int:
    return max(1, whole // of)
