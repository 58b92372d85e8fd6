"""What a run is made of: its settings, its code and its environment."""
