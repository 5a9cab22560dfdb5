"""Build the book of this checkout: run its notebooks, keep their records, render the pages."""
