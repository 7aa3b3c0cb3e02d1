"""What the bodies of several resources have in common."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta

Cursor = Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last page")]
DestinationId = Annotated[UUID, Meta(description="The destination's id")]
CreatedAt = Annotated[datetime, Meta(description="When it was recorded")]
