"""Deep models that train: what is added to the residual stream is scaled, or starts small."""
