"""One file per SDK family: the one place where the family sends a request, and how its answer is read."""

import tokenguard.tokens  # noqa: F401 - what estimates an abandoned call: as the process ends it is too late to import
