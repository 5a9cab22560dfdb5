"""What serves this book alone: figures of pages, checks of equations, the build, and the judging of shipped models.

Nothing outside this room imports it, and the wheel leaves it out.
Not here: what a reader would install the package for.
"""
