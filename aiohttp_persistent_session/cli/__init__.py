"""The command line: what administrators do by hand. See docs/command-line.md."""
