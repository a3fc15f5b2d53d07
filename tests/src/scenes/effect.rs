//! What a remedy did, by measurement.
