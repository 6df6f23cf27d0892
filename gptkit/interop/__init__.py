"""Models from elsewhere, and models for elsewhere: names and layouts translated, no code run."""
