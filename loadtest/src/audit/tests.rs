//! What the audit catches.
