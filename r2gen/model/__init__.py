"""The report generator that joins encoder, projector and language model, and the choice of what it trains."""
