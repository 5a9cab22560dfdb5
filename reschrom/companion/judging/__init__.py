"""How samples of the shipped models are judged: a classifier, distances from real images, and the evaluation."""
