"""What keeps a lake tidy: compaction, vacuum, trimming and expiry, under one lease, by command or beside the flow."""
