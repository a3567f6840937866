"""AlumiCatalyst: exact answers from a factory's telemetry, streamed to an open lake."""
