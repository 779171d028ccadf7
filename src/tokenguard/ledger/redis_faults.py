"""What keeps a Redis from being a ledger, in words that say what to do.

https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/ (cluster),
https://redis.io/docs/latest/develop/reference/eviction/ (eviction)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_ONE_SERVER: Final = "all keys of the ledger are in one slot, and another node is not followed"

SENTENCES: Final[Mapping[str, str]] = {
    "MovedError": f"this node of a cluster does not have the ledger's keys, {{where}} does: {_ONE_SERVER}. Name that "
    "node in [ledger] url, or a server of its own",
    "AskError": f"the cluster is moving the ledger's keys to {{where}}: {_ONE_SERVER}. Name that node in [ledger] url",
    "ClusterDownError": "the cluster is down, or nobody has the ledger's slot. Mend it, or name a server of its own",
    "ReadOnlyError": "this is a replica, which takes no writes. Name the master in [ledger] url, or the address that "
    "follows a failover",
    "OutOfMemoryError": "its memory is full (maxmemory), and nothing is evicted, as it should be. Give it more",
    "NoPermissionError": "its user may not run what the ledger needs (EVALSHA, and all keys that begin with "
    "{{tokenguard}}). Let the ACL allow it",
}
"""What is said of an error by the name of its class in redis-py; `{where}` is the node that it names."""


def sentence(error: BaseException) -> str:
    """What a client's error means for the ledger; its own words, where they say it all."""
    said = str(error)
    words = SENTENCES.get(type(error).__name__)
    if words is not None:
        return f"{words.format(where=said.split()[-1] if said else 'another one')} ({said})"
    if "unknown command" in said.lower() and "EVAL" in said.upper():
        return f"it runs no scripts, as a Sentinel does not. Name the master that it watches in [ledger] url ({said})"
    return said


def doubts(memory: Mapping[str, Any]) -> list[str]:
    """What would make it lose what was spent, by its `INFO memory`."""
    policy, limit = memory.get("maxmemory_policy", "noeviction"), memory.get("maxmemory", 0)
    if not limit or policy == "noeviction":
        return []
    return [
        f'the Redis ledger evicts keys when its memory is full (maxmemory-policy "{policy}"), and with them what '
        'budgets have spent. Set "maxmemory-policy noeviction", or give the ledger a server of its own'
    ]
