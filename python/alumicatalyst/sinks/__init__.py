"""Where analysed batches go: one destination a module, and each names the key that makes writing twice harmless."""
