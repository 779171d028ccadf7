"""What happens to a process: its end, forks, exceptions out of signal handlers, and the threads of ours in it."""
