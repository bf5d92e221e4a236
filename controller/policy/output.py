"""`concurrency.output`: an existing queue, BullMQ's or Celery's, that is told the limit as well."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from controller.policy.address import broker_url
from controller.policy.quantity import Duration, at_least
from controller.policy.section import Section

QUEUE_NAME = r"^[A-Za-z0-9_.:-]+$"


class Output(Section):
    """An existing queue that is told the limit as well."""

    kind: Literal["bullmq", "celery"] = Field(description="Whose queue it is.")
    queue: Annotated[str, Field(min_length=1, max_length=200, pattern=QUEUE_NAME)] = Field(
        description="Name of the BullMQ queue, or of the queue that the Celery workers take from."
    )
    url: Annotated[str, AfterValidator(broker_url)] | None = Field(
        None,
        description="Redis of the BullMQ queue, default the daemon's own; or broker of the Celery workers. Without a password.",
    )
    urlFile: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="File that holds the URL, read for each write, where it carries a password."
    )
    prefix: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        "bull", description="BullMQ's key prefix; with braces in a cluster, as there."
    )
    workers: Annotated[str, Field(min_length=1)] = Field(
        "*", description="Names of the Celery workers that share the limit, a pattern such as `llm@*`."
    )
    maxPerWorker: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Processes that one Celery worker may have at most."
    )
    replyWithin: Annotated[Duration, AfterValidator(at_least(0.001))] = Field(
        1.0, description="How long Celery workers have to answer. Each tick takes this long.", validate_default=False
    )

    @model_validator(mode="after")
    def _of_its_kind(self) -> Output:
        others = {"bullmq": ("workers", "maxPerWorker", "replyWithin"), "celery": ("prefix",)}[self.kind]
        if wrong := [name for name in others if name in self.model_fields_set]:
            raise ValueError(f"{wrong[0]} is not for {self.kind}")
        if self.url is not None and self.urlFile is not None:
            raise ValueError("give url or urlFile, not both")
        if self.kind == "celery" and self.url is None and self.urlFile is None:
            raise ValueError("celery needs url or urlFile: its broker")
        return self
