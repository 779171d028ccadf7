"""A call: its state, the flow that it takes and the drivers of it, how it failed, whose it is, where it was made."""
