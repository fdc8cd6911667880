//! STAND-IN of a sink's configuration, replaced when the real one is merged.
#![allow(missing_docs)]
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    Inventory,
    Finance,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    pub name: String,
    pub domain: Domain,
    pub url: String,
    #[serde(default)]
    pub window_events_max: u64,
    #[serde(default)]
    pub window_ms_max: u64,
    #[serde(default)]
    pub timeout_ms: u64,
    #[serde(default)]
    pub rate_per_s: f64,
    #[serde(default)]
    pub retry_initial_ms: u64,
    #[serde(default)]
    pub retry_max_ms: u64,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}
