"""The audio of each thing that is seen in a file, by itself."""
