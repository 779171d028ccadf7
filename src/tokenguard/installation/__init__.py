"""How a process comes to be measured: `install()`, `tokenguard-instrument`, and what watches imports."""
