//! Plans and writes bundles.
