"""Break the world around an app under load, and count every broken promise afterwards.

    python -m tests.chaos --minutes 10 --seed 1 --world single

`worlds` has the servers and the workers, `nemesis` the faults, `clients` the load, `checker` the judge. `records` has the
words between the last two.
"""
