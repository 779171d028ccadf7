"""What the end of a process, and a fork, mean for what is kept in it."""
