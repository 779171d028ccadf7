"""What the seams share: no file here is about one SDK."""
