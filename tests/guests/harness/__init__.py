"""Real guests and drivers on a weir: each program of tests/guests/ is the module of its name here."""
