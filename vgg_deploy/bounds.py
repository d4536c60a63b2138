"""Numbers that a document may hold: pydantic refuses others where the document is read.

The bounds are far beyond what can be measured, and near enough that sums, ratios and the axes of a
plot stay finite.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=0, le=10**18)]
Positive = Annotated[int, Field(ge=1, le=10**18)]
Real = Annotated[float, Field(ge=-1e100, le=1e100)]  # no NaN either
Share = Annotated[float, Field(ge=0, le=1)]
PositiveReal = Annotated[float, Field(ge=1e-100, le=1e100)]
