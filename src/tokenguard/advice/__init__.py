"""What the records advise: what a policy would have saved, how two versions compare, what a line of code costs.

All of it reads what is recorded and changes no call. `proposal` reads what is proposed, `replay` puts the recorded
calls through it, `waterfall` adds up what each step saves.
"""
