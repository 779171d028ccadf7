"""The one path that every call takes: begun, sent, settled."""
