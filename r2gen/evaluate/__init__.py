"""Generation of reports, metrics, baselines and statistics: from a model to metrics.json and tables."""
