"""A trained model on a file of any length: streaming, with memory that does not grow."""
