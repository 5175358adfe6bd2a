//! The strict JSON of seg/1 3.1.
