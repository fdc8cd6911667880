//! Partners as the log keeps them, and what any partner may do: scopes and limits.
//!
//! A partner that was added to a running server is a record ([`super::event::PartnerChange`]) and, in
//! checkpoints, a [`PartnerEntry`]. Of its keys only hashes are kept; a key is shown once, to whoever
//! made it. A revoked partner stays listed, so that its name is not given to another one while its
//! idempotency keys are remembered.

use std::{fmt, str::FromStr};

use rkyv::{Archive, Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Invalid, Lsn, Timestamp, signature::KeyHash};

/// The most partners that the log keeps, revoked ones among them.
pub const LIVE_PARTNERS_MAX: usize = 1_000;
/// The most old keys of a partner that are still good.
pub const OLD_KEYS_MAX: usize = 4;
/// The most characters of a partner's name.
pub const PARTNER_NAME_CHARS_MAX: usize = 32;
/// The longest that an old key may be good: 30 days.
pub const GRACE_MS_MAX: u64 = 30 * 86_400_000;
/// How long it is where nobody says: an hour.
const GRACE_MS_DEFAULT: u64 = 3_600_000;
/// Higher rates are no limit.
const RATE_MAX: u64 = 1_000_000;
/// What fits where a day's requests are counted.
const QUOTA_MAX: u64 = 1_000_000_000_000;
/// An hour: longer than any request takes.
const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// What a partner may do, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read stock.
    Availability,
    /// Reserve, change, extend and release; read reservations and stock.
    Reserve,
    /// Commit and place orders, call units off; read orders.
    Order,
    /// Set stock and move it, ship, take returns in; read orders.
    Fulfil,
    /// Invoices, settlements and refunds; read orders.
    Settle,
    /// Read how the house stands: metrics, status, sinks, dead letters, traces.
    Observe,
    /// Do what an operator does: sinks, dead letters, parked events, partners.
    Operate,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Availability,
        Self::Reserve,
        Self::Order,
        Self::Fulfil,
        Self::Settle,
        Self::Observe,
        Self::Operate,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Reserve => "reserve",
            Self::Order => "order",
            Self::Fulfil => "fulfil",
            Self::Settle => "settle",
            Self::Observe => "observe",
            Self::Operate => "operate",
        }
    }
}

impl FromStr for Scope {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid =
            Invalid("must be availability, reserve, order, fulfil, settle, observe or operate");
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(WRONG)
    }
}

/// A set of scopes; outside a list of their words.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub const ALL: Self = Self::of(&Scope::ALL);

    /// These.
    pub const fn of(scopes: &[Scope]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < scopes.len() {
            bits |= 1 << scopes[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Whether one of `scopes` is among them.
    pub fn have_any(self, scopes: &[Scope]) -> bool {
        self.0 & Self::of(scopes).0 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// They, in their order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.have_any(&[*scope]))
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        Self::of(&scopes)
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.iter().collect()
    }
}

/// How much a partner may do; what is not said is limited by the server's own limits only.
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    ToSchema,
)]
pub struct Limits {
    /// Requests a second, on the average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u32>,
    /// Requests at once after a pause; as many as `rate_per_s` where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Requests a day (UTC), from midnight to midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_per_day: Option<u64>,
    /// The largest body, where that is less than the server takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<u64>,
    /// The longest that a body may take, and then the answer, where that is less than the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl Limits {
    /// Checks every field.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, Invalid)> {
        let within = |field, value: Option<u64>, most, wrong| match value {
            Some(value) if !(1..=most).contains(&value) => Err((field, Invalid(wrong))),
            _ => Ok(()),
        };
        let wide = |value: Option<u32>| value.map(u64::from);
        within("rate_per_s", wide(self.rate_per_s), RATE_MAX, "must be 1 to 1000000")?;
        within("burst", wide(self.burst), RATE_MAX, "must be 1 to 1000000")?;
        within("quota_per_day", self.quota_per_day, QUOTA_MAX, "must be 1 to 1000000000000")?;
        within("body_bytes_max", self.body_bytes_max, u64::MAX, "must be above 0")?;
        within("timeout_ms", self.timeout_ms, TIMEOUT_MS_MAX, "must be 1 to 3600000")?;
        match (self.burst, self.rate_per_s) {
            (Some(_), None) => Err(("burst", Invalid("is of no use without `rate_per_s`"))),
            _ => Ok(()),
        }
    }
}

/// What a partner may do, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Terms {
    /// What it may do.
    pub scopes: Scopes,
    /// How much of it.
    pub limits: Limits,
}

impl Default for Terms {
    /// Everything, without limits.
    fn default() -> Self {
        Self { scopes: Scopes::ALL, limits: Limits::default() }
    }
}

/// Checks a partner's name.
///
/// # Errors
/// What it must be.
pub fn check_partner_name(name: &str) -> Result<(), Invalid> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if (1..=PARTNER_NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Invalid("must be 1 to 32 lower-case letters, digits, `-` or `_`"))
}

/// A partner that is to be added.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPartner {
    /// Its name: 1 to 32 lower-case letters, digits, `-` and `_`.
    #[schema(pattern = "^[a-z0-9_-]{1,32}$")]
    pub name: String,
    /// What it may do.
    #[schema(value_type = Vec<Scope>, min_items = 1)]
    pub scopes: Scopes,
    /// Requests a second, on the average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub rate_per_s: Option<u32>,
    /// Requests at once after a pause; as many as `rate_per_s` where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub burst: Option<u32>,
    /// Requests a day (UTC), from midnight to midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64)]
    pub quota_per_day: Option<u64>,
    /// The largest body, where that is less than the server takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub body_bytes_max: Option<u64>,
    /// The longest that a body may take, and then the answer, where that is less than the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_600_000)]
    pub timeout_ms: Option<u64>,
}

impl AddPartner {
    /// What it may do, and how much of it.
    pub fn terms(&self) -> Terms {
        let Self { rate_per_s, burst, quota_per_day, body_bytes_max, timeout_ms, .. } = *self;
        let limits = Limits { rate_per_s, burst, quota_per_day, body_bytes_max, timeout_ms };
        Terms { scopes: self.scopes, limits }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, Invalid)> {
        check_partner_name(&self.name).map_err(|wrong| ("name", wrong))?;
        if self.scopes.is_empty() {
            return Err(("scopes", Invalid("must name at least one")));
        }
        self.terms().limits.check()
    }
}

/// How a partner's key is replaced.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the present key is still good, in milliseconds; 0: no longer, nor any older one.
    /// Default 3,600,000 (an hour), at most 30 days.
    #[serde(default = "grace_ms")]
    #[schema(maximum = 2_592_000_000_u64)]
    pub grace_ms: u64,
}

const fn grace_ms() -> u64 {
    GRACE_MS_DEFAULT
}

impl Default for RotateKey {
    fn default() -> Self {
        Self { grace_ms: GRACE_MS_DEFAULT }
    }
}

/// A key that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct OldKey {
    /// It is good until then, in milliseconds since the epoch.
    pub until_ms: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// What was done to a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PartnerDeed {
    /// It was added.
    Add,
    /// It got another key.
    Rotate,
    /// None of its keys is good any more.
    Revoke,
}

impl PartnerDeed {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
        }
    }
}

/// A partner as the log keeps it.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PartnerEntry {
    /// When it was added, in milliseconds since the epoch.
    pub added_at_ms: u64,
    /// When the last thing was done to it.
    pub changed_at_ms: u64,
    /// The record of that; 0 in the record itself.
    pub changed_lsn: u64,
    /// Its name.
    pub name: String,
    /// Who did the last thing to it: a partner's name; empty where none is known.
    pub changed_by: String,
    /// What it may do.
    pub terms: Terms,
    /// The hash of its key.
    pub key: [u8; 32],
    /// Keys that were replaced, and are still good for a while.
    pub old_keys: Vec<OldKey>,
    /// Whether none of its keys is good any more.
    pub revoked: bool,
}

impl PartnerEntry {
    /// The hashes of its keys and until when each is good, in milliseconds since the epoch.
    pub fn keys(&self) -> impl Iterator<Item = (KeyHash, u64)> {
        let old = self.old_keys.iter().map(|old| (KeyHash::from_bytes(&old.hash), old.until_ms));
        let all = std::iter::once((KeyHash::from_bytes(&self.key), u64::MAX)).chain(old);
        all.filter(|_| !self.revoked)
    }

    /// The last record about it.
    pub fn last(&self) -> Lsn {
        Lsn(self.changed_lsn)
    }

    /// As it is told.
    pub fn view(&self, now_ms: u64) -> PartnerView {
        let good = self.old_keys.iter().filter(|old| old.until_ms > now_ms && !self.revoked);
        PartnerView {
            name: self.name.clone(),
            source: PartnerSource::Log,
            revoked: self.revoked,
            scopes: self.terms.scopes,
            limits: self.terms.limits.clone(),
            added_at: Some(Timestamp::from_millis(self.added_at_ms)),
            changed_at: Some(Timestamp::from_millis(self.changed_at_ms)),
            changed_by: self.changed_by.clone(),
            old_keys_until: good.map(|old| Timestamp::from_millis(old.until_ms)).collect(),
        }
    }
}

impl fmt::Debug for PartnerEntry {
    /// Without the hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerEntry")
            .field("name", &self.name)
            .field("terms", &self.terms)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

/// Where a partner is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartnerSource {
    /// In the configuration file.
    Configuration,
    /// In the log: it was added to a server.
    Log,
}

impl PartnerSource {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Log => "log",
        }
    }
}

/// A partner, as it is told: nothing of its keys.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct PartnerView {
    /// Its name.
    pub name: String,
    /// Where it is kept.
    pub source: PartnerSource,
    /// Whether it may no longer do anything.
    pub revoked: bool,
    /// What it may do.
    #[schema(value_type = Vec<Scope>)]
    pub scopes: Scopes,
    /// How much of it.
    #[serde(flatten)]
    pub limits: Limits,
    /// When it was added; not of one in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_at: Option<Timestamp>,
    /// When the last thing was done to it; not of one in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// Who did that; empty where nobody is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub changed_by: String,
    /// Until when old keys of it are still good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_keys_until: Vec<Timestamp>,
}

/// Why a known caller's request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// The key is no longer good, or never was.
    Unknown,
    /// The partner has none of the scopes that are needed.
    Scope(&'static [Scope]),
    /// The partner's rate or quota is used up.
    Limit {
        /// Seconds after which there is room again.
        retry_after_s: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_scopes_is_what_it_was_made_of_and_reads_as_it_is_written() {
        let some = Scopes::of(&[Scope::Operate, Scope::Reserve, Scope::Reserve]);
        let text = serde_json::to_string(&some).unwrap();
        assert_eq!(text, r#"["reserve","operate"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(&text).unwrap(), some);
        assert!(some.have_any(&[Scope::Order, Scope::Operate]));
        assert!(!some.have_any(&[Scope::Order, Scope::Settle]) && !some.have_any(&[]));
        assert!(serde_json::from_str::<Scopes>(r#"["all"]"#).is_err());
        assert_eq!(Scopes::ALL.iter().collect::<Vec<_>>(), Scope::ALL);
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
    }

    #[test]
    fn what_is_wrong_with_a_partner_names_the_field() {
        let good = r#"{"name": "shop-1", "scopes": ["reserve"], "rate_per_s": 10, "burst": 20}"#;
        let good: AddPartner = serde_json::from_str(good).unwrap();
        assert_eq!(good.check(), Ok(()));
        let wrong = |change: fn(&mut AddPartner)| {
            let mut add = good.clone();
            change(&mut add);
            add.check().map_err(|(field, _)| field)
        };
        assert_eq!(wrong(|add| add.name = "Shop".to_owned()), Err("name"));
        assert_eq!(wrong(|add| add.name = "s".repeat(33)), Err("name"));
        assert_eq!(wrong(|add| add.scopes = Scopes::of(&[])), Err("scopes"));
        assert_eq!(wrong(|add| add.rate_per_s = Some(0)), Err("rate_per_s"));
        assert_eq!(wrong(|add| add.rate_per_s = None), Err("burst"));
        assert_eq!(wrong(|add| add.burst = Some(1_000_001)), Err("burst"));
        assert_eq!(wrong(|add| add.quota_per_day = Some(0)), Err("quota_per_day"));
        assert_eq!(wrong(|add| add.body_bytes_max = Some(0)), Err("body_bytes_max"));
        assert_eq!(wrong(|add| add.timeout_ms = Some(3_600_001)), Err("timeout_ms"));
    }

    #[test]
    fn a_revoked_partner_has_no_keys_and_no_hash_is_shown() {
        let hash = [0xab; 32];
        let mut entry = PartnerEntry {
            added_at_ms: 1,
            changed_at_ms: 2,
            changed_lsn: 3,
            name: "shop".to_owned(),
            changed_by: String::new(),
            terms: Terms::default(),
            key: hash,
            old_keys: vec![OldKey { until_ms: 9, hash }],
            revoked: false,
        };
        assert_eq!(entry.keys().count(), 2);
        assert_eq!(entry.view(8).old_keys_until.len(), 1);
        assert_eq!(entry.view(9).old_keys_until.len(), 0);
        for shown in [format!("{entry:?}"), serde_json::to_string(&entry.view(8)).unwrap()] {
            assert!(shown.contains("shop") && !shown.contains("abab") && !shown.contains("171"));
        }
        entry.revoked = true;
        assert_eq!(entry.keys().count(), 0);
    }
}
