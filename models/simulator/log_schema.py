"""The feature schema that `models.simulator.simulation` writes beside its log."""

from __future__ import annotations

from typing import Final

from models.schema.feature_schema import FeatureSchema, FieldSpec, Split

CONTEXT = ("user_id", "age_band", "country", "device", "hour", "weekday", "site", "page_category")
CANDIDATE = ("ad_id", "advertiser", "ad_category", "creative_format")

SCHEMA: Final = FeatureSchema(
    label="click",
    group="user_id",
    segments=("device", "ad_category"),
    split=Split(column="time"),
    fields=(
        *(FieldSpec(name=name, kind="categorical", side="context") for name in CONTEXT),
        FieldSpec(name="clicked_ads", kind="sequence", side="context", vocabulary="ad_id", max_length=20),
        *(FieldSpec(name=name, kind="categorical", side="candidate") for name in CANDIDATE),
        *(FieldSpec(name=name, kind="numeric", side="candidate") for name in ("ad_age_days", "price")),
    ),
)
COMMENTS: Final = {
    "user_id": "The context: user, moment and page. Tokens seen less than min_count times (default 2) share one row.",
    "hour": "24 tokens, since the effect of an hour is not linear",
    "clicked_ads": "the user's last clicks before the day of the impression, oldest first; shares the rows of ad_id",
    "ad_id": "The candidate: the ad.",
}
