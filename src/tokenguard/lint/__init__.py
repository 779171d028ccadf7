"""The linter: finds the waste in the code before it runs.

The pieces, from the bottom: `syntax` parses and knows scopes, `names` follows names, `facts` knows which arguments are
present, `flow` follows changing values into texts, `rulebook` loads the rules of `rules/`, `engine` lints one text,
`run` many files. Nothing here imports the runtime or OpenTelemetry; libcst is imported when a fix is carried out.
"""
