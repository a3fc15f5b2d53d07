//! Inputs from the running kernel.
