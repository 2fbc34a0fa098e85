"""What was booked: catalogue, booking, life cycle, reconcile loop."""
