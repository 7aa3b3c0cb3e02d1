"""What a run may have beside deliveries and those who make them: each run has some of it, most have little.

Runs that have only some of all there is go deeper into these (Groce et al., "Swarm Testing", 2012).
"""

from enum import Enum

from simulator.choices import FEATURES, Choices
from simulator.faults import LATE_RECORDS, Weather


class Feature(Enum):
    """Each with what it is."""

    QUESTIONS = "banks that can be asked what became of an unknown payment"
    JOBS = "many deliveries are replayed or canceled at once"
    EVENTS = "destinations whose ends are told to another one"
    PROPOSALS = "jobs that another token must approve"


# In how many runs of a hundred each is
SHARES_PERCENT = {Feature.QUESTIONS: 25, Feature.JOBS: 25, Feature.EVENTS: 15, Feature.PROPOSALS: 20}


def draw_features(choices: Choices, weather: Weather) -> frozenset[Feature]:
    """Those of a run; the benign one has none. They would stand in the way of late records."""
    if weather.theme == LATE_RECORDS:
        return frozenset()
    with choices.of_stream(FEATURES):
        drawn = frozenset(feature for feature in Feature if choices.happens(SHARES_PERCENT[feature]))
    return drawn if Feature.JOBS in drawn else drawn - {Feature.PROPOSALS}
