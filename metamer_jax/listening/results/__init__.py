"""Responses become tables, sentences, figures and a report."""
