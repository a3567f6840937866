"""Stand-ins and builders for tests and demonstrations: nothing here runs in production."""
