"""What is measured once, with the training data at hand, and ships in `data/reference`; each module is a command."""
