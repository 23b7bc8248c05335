"""The REST API: FastAPI routers in vertical slices; the only place with HTTP status codes."""
