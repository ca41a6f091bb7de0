"""File formats of spike data -> the one in-memory form; one module a format, and what several share."""
