"""What `tokenguard init` finds in a project, and the files that it proposes."""
