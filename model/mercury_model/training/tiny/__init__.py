"""`tiny`: a few megabytes of weights, trained from scratch on a CPU in minutes.

Real, trained and weak: for tests and examples, and for whoever wants to see the whole of it.
"""
