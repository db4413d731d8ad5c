"""By how much the audio of a file is off its video."""
