"""Jobs: submit, list, steer, watch, and what they leave behind."""
