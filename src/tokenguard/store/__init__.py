"""The local store: finished calls and tasks in one SQLite file."""
