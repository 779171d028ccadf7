"""What the input of a call is made of, and why the provider's prompt cache did not have it.

Looked at after the call, in the thread that keeps the records: `pieces` takes a request apart, `sections` counts them,
`chains` remembers the last prompts as checksums, and `breaks` compares. Nothing of a prompt is kept.
"""
