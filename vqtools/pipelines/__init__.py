"""One file per command: resolves names, loads networks, and puts engines and files together."""
