"""Training: supervised recipes for the nets that the studies judge."""
