"""Reads responses, however they were collected, into one table with a row per trial.

`read` takes the page's JSON, a server's folder or database, a JATOS archive, jsPsych's CSV or JSON,
a Google form's CSV, and tables that are tidy already. What does not fit in a table is an error that
names file and row; rows of CSV files count as spreadsheets show them, the header is row 1. A
session as a browser sent it that the experiment cannot have given is left out, with the reason
(`Responses.rejected`).

reading     tells by its content what a file is
page_json jspsych google_form    sessions of answers, from each kind of file
answers     what a session is, and the key to the right answers
joining     sessions and key become trials
trial_table the table of trials; tables that are tidy already
csv_rows    rows of CSV files, and errors that name them
"""

from metamer_jax.listening.responses.answers import AnswerKey as AnswerKey
from metamer_jax.listening.responses.csv_rows import ResponseError as ResponseError
from metamer_jax.listening.responses.reading import Responses as Responses
from metamer_jax.listening.responses.reading import from_sessions as from_sessions
from metamer_jax.listening.responses.reading import read as read
from metamer_jax.listening.responses.trial_table import COLUMNS as COLUMNS
from metamer_jax.listening.responses.trial_table import neutral as neutral
from metamer_jax.listening.responses.trial_table import read_proportions as read_proportions
from metamer_jax.listening.responses.trial_table import read_trials as read_trials
from metamer_jax.listening.responses.trial_table import write_trials as write_trials
