"""Files of weights: our own format, and where the models that ship lie."""
