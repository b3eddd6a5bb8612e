//! Real certificates.
