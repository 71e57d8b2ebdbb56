"""The world breaks around an app under load, and afterwards every promise is counted.

    python -m tests.chaos --minutes 10 --seed 1 --world single

`worlds` is the servers and the workers, `nemesis` what happens to them, `clients` the load and what it was told,
`checker` the judge of both; `records` is the language between the last two.
"""
