"""The command line: ``tdm`` and its sub-commands, one module each."""
