"""TokenGuard."""
