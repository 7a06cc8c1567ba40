"""Collection: episodes of any actor, played in worker processes, into Minari data sets."""
