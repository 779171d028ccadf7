"""Where budgets are kept: what is spent and what is reserved, exact and never above the limit."""

from __future__ import annotations

from tokenguard.ledger.base import Ledger
from tokenguard.ledger.entry import NANO, Alert, Balance, Entry, LedgerError, Refusal, Reservation, nano, new_id
from tokenguard.ledger.memory import MemoryLedger
from tokenguard.ledger.open import open_ledger

__all__ = [
    "NANO",
    "Alert",
    "Balance",
    "Entry",
    "Ledger",
    "LedgerError",
    "MemoryLedger",
    "Refusal",
    "Reservation",
    "nano",
    "new_id",
    "open_ledger",
]
