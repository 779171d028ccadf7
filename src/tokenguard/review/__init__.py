"""What a change makes dearer, as one comment: its base against what is checked out. It only reads."""
