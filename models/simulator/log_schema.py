"""The feature schema that `models.simulator.simulation` writes beside its log; imports nothing.

The columns are those of `models.simulator.market`; the true probabilities are not among them.
"""

from __future__ import annotations

from typing import Final

SCHEMA_TOML: Final = """\
# Feature schema of a simulated ad log: what the columns mean and how the rows are split.
label = "click"
group = "user_id"                        # GAUC compares a user's impressions with each other
segments = ["device", "ad_category"]     # calibration is also reported for each value of these
negatives_kept = {negatives_kept}                    # share of the non-clicks that the log still holds

[split]
column = "time"                          # oldest first: train, validation, test
validation_fraction = 0.1
test_fraction = 0.1

# The context: user, moment and page.

[[field]]
name = "user_id"
kind = "categorical"
side = "context"
min_count = 2                            # rarer tokens share the out-of-vocabulary row

[[field]]
name = "age_band"
kind = "categorical"
side = "context"

[[field]]
name = "country"
kind = "categorical"
side = "context"

[[field]]
name = "device"
kind = "categorical"
side = "context"

[[field]]
name = "hour"
kind = "categorical"                     # 24 tokens: the effect of an hour is not a straight line
side = "context"

[[field]]
name = "weekday"
kind = "categorical"
side = "context"

[[field]]
name = "site"
kind = "categorical"
side = "context"
min_count = 2

[[field]]
name = "page_category"
kind = "categorical"
side = "context"

[[field]]
name = "clicked_ads"                     # the user's last clicks before the day of the impression, oldest first
kind = "sequence"
side = "context"
vocabulary = "ad_id"                     # shares the tokens and rows of that field
max_length = 20

# The candidate: the ad.

[[field]]
name = "ad_id"
kind = "categorical"
side = "candidate"
min_count = 2

[[field]]
name = "advertiser"
kind = "categorical"
side = "candidate"
min_count = 2

[[field]]
name = "ad_category"
kind = "categorical"
side = "candidate"

[[field]]
name = "creative_format"
kind = "categorical"
side = "candidate"

[[field]]
name = "ad_age_days"
kind = "numeric"
side = "candidate"

[[field]]
name = "price"
kind = "numeric"
side = "candidate"
"""
