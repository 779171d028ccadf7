"""Batch jobs: seen where the SDK sends, accounted line by line, held in budgets, and the helper that runs one."""
