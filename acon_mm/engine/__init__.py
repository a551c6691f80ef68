"""What surrounds a run: launching processes, wrapping the model, checking the data first."""
