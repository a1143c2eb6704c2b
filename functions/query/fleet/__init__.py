"""What the fleet did over a window: idle, missing, throttled, broken, busy; each question its own module.

Records are read segment by segment (parts.py) and boiled down to a few rows per GPU by measures (measures.py,
series.py, spread.py), whose tables merge in any grouping; the questions work on those.
"""
