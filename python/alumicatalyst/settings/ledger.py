"""The settings of the ledger: where its log is, what it is called, and who signs it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alumicatalyst.settings.section import Section


class LedgerSettings(Section):
    """The ledger: a log of the lake's commits, and the key that signs it."""

    uri: Annotated[str, Field(pattern=r"^file:.+")] = Field(
        default="file:var/ledger",
        description="The folder of the ledger's log, file:PATH: static files that anyone may copy and serve. The API "
        "serves the newest signed checkpoint from it; with a wrong one /v1/ledger/checkpoint answers 404. An empty "
        "place where a ledger was kept before stops `ledger run`, as its last signed checkpoint would be broken.",
    )
    origin: Annotated[str, Field(pattern=r"^[^\s+\x00-\x1f]{1,255}$")] = Field(
        default="example.com/plant",
        description="The name of the log, like a URL without the scheme, in every checkpoint and in the name of the "
        "key. Choose it once: another one stops `ledger run`, since proofs are only good for one origin.",
    )
    key: Annotated[str, Field(pattern=r"^file:.+")] = Field(
        default="file:var/keys/ledger",
        description="The Ed25519 key that signs checkpoints, file:PATH of a PEM that only its owner may read; made at "
        "the first start. Beside it stand PATH.vkey, which verifiers need, and PATH.checkpoint, the last one signed: "
        "keep all three away from the log, which is refused once it contradicts that checkpoint. A lost key ends the "
        "log: what it signed stays provable.",
    )
    interval_s: Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)] = Field(
        default=1.0,
        description="Seconds between two looks at the lake's commits. Longer groups more of them under one signed "
        "checkpoint; what is committed meanwhile is stored, but not yet provable.",
    )
