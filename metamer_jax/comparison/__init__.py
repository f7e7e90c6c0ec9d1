"""Networks compared: which are trained and how, the work on them, and what it says.

entries        what is compared: a network and a training recipe; named sets; planned contrasts
work           trains, synthesises, verifies and cross-tests, each part once
status         what is left, and how long it may take
tables         what the run folders hold, as tables and one array of answers
bootstrap      intervals over crossed samples
effects        means and planned differences with their intervals
significance   the paper's tests, analyses of variance
plots words summary    figures, sentences, and both in report/
"""
