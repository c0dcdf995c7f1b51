"""What one trial does: data, models, samplers, the loop, and the arms of a comparison side by side."""
