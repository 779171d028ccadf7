"""Where budgets are kept: what is spent and what is reserved, exact and never above the limit."""
