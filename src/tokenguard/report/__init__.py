"""`tokenguard report`: what was spent, on what, what caching saved, what retries cost, what was blocked.

`sources` opens the local store or OTLP-JSON lines as one kind of database, `figures` asks it, `findings` looks for
waste in the figures, and `layout` prints.
"""
