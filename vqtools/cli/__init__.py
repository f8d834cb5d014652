"""The commands: flags, files and exit codes. Each command has a module of its name; the work is done by `pipelines`."""
