"""The command `vqtools`: one file per command, with flags generated from the settings classes."""
