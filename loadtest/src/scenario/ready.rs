//! The scenarios that come with the tester.

/// Each with its name.
pub const READY: [(&str, &str); 6] = [
    ("flash-drop", include_str!("../../scenarios/flash-drop.toml")),
    ("holiday-400", include_str!("../../scenarios/holiday-400.toml")),
    ("sold-out", include_str!("../../scenarios/sold-out.toml")),
    ("retry-storm", include_str!("../../scenarios/retry-storm.toml")),
    ("long-tail", include_str!("../../scenarios/long-tail.toml")),
    ("erp-outage", include_str!("../../scenarios/erp-outage.toml")),
];
