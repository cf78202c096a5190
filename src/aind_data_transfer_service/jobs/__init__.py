"""A submitted job's life: record, states, store, submission, monitor."""
