"""`python -m tokenguard.lint` is `tokenguard lint`."""

from tokenguard.lint.arguments import main

if __name__ == "__main__":
    main()
