"""Values and names that everything else is written in. Imports nothing of the package."""
