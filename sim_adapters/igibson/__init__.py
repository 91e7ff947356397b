"""iGibson's PointNav: its own environment behind Gymnasium's interface, and a tiny scene that needs no download."""
