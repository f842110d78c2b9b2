"""What `edgellama chat` is made of. Belongs to the commands: nothing in the runtime imports it.

`interactive.py` is the loop of a person at a terminal, `plain.py` the one of pipes; every other file is one idea that
they use. rich and prompt_toolkit are imported by the files that only the interactive loop needs.
"""
