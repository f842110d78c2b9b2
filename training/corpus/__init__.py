"""The text that the model learns from: all of it is written here, or made by the grammars here."""
