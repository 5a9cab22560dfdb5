"""The command line `reschrom`: its parser, and what each command does.

Here belong reading arguments, checking them, and printing. Each command is a few lines that call other rooms.
Not here: anything that a Python user would want to call.
"""
