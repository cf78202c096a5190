"""Spreadsheets of jobs: .csv and .xlsx to job models, and the template."""
