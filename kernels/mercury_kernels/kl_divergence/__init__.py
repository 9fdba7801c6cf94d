"""How far each prediction is from that of the step before, which it then takes the place of."""
