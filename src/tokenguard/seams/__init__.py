"""One file per SDK family: the one place where the family sends a request, and how its answer is read."""
