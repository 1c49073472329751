//! Storage drivers: arrays and storage nodes behind a small set of traits.
