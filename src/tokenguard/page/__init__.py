"""The page to look at: the same for a browser on this machine (`tokenguard dashboard`) and as one file to mail.

`gathered` asks the records, `sections` and `charts` make HTML of it on the server, with no script that is needed, and
`document` puts it into one file without any outside resource. `app` serves it on loopback.
"""
