"""What a training minimises: one module per option of the group `objective`."""
