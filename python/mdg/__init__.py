"""mdg, a Medical Data Gateway for the Imaging Exchange Framework."""
