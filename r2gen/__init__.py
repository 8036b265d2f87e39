"""R2Gen: train, test and compare chest X-ray report generators in which the language model is one config word."""
