"""A demonstration without a provider's account: a simulated provider, a program that uses it, and the report."""
