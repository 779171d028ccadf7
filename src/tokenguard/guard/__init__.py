"""Whether a call may go out, and as what: limits, budgets, breakers, shared calls, alerts."""
