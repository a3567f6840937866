"""The ledger: an append-only log of digests of the lake's commits, signed so that anyone can verify it without us.

`merkle` hashes, `tiles` names and reads the files, `note` signs, `log` appends, `proof` writes what verifies offline.
The bytes of each are described in LEDGER.md.
"""
