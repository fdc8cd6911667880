//! What one configuration changes of another, key by key, and which of it a running server takes.
//!
//! It promises that no secret is shown, that one that was changed shows as changed, and that what is not
//! known to be taken by a running server needs a restart.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{
    Config, Error, SinkConfig,
    address::{HIDDEN, HIDDEN_PASSWORD},
};
use crate::model::configuration::ChangeView;

/// What of a sink that speaks HTTP is exchanged while it goes on, by the beginning of the key; for
/// anything else it is started anew.
const IN_PLACE: [&str; 11] = [
    "url",
    "preset",
    "connector",
    "headers",
    "signing_secret",
    "timeout_ms",
    "rate_per_s",
    "retry_",
    "policy",
    "reconcile",
    // Of orders that come, not of what the sink does.
    "accounts.tax_codes",
];
/// What of these is not: the room for what is under way is made once.
const NOT_IN_PLACE: [&str; 2] = ["policy.ordering", "policy.concurrency_max"];
/// What of the server is made once: where it listens, its threads, and what keeps others out there.
const FIXED_OF_SERVER: [&str; 5] = ["listen", "keys_in_log", "data", "threads", "tls"];

type Leaves = BTreeMap<String, Value>;

/// What is another in `after`.
///
/// # Errors
/// Never for a configuration that was read: if it can't be said as TOML.
pub fn changes(before: &Config, after: &Config) -> Result<Vec<ChangeView>, Error> {
    let shown = (leaves(&shown(before)?), leaves(&shown(after)?));
    let bare = (leaves(&table(before)?), leaves(&table(after)?));
    let differs = |key: &String| bare.0.get(key) != bare.1.get(key);
    Ok(between(&shown.0, &shown.1, differs))
}

/// Whether a sink that runs goes on while it turns to other settings; else it is started anew.
pub(crate) fn is_in_place(before: &SinkConfig, after: &SinkConfig) -> bool {
    let is_brokered = |sink: &SinkConfig| sink.speaks_nats() || sink.speaks_kafka();
    // A broker knows who sends to it, which must be one at a time.
    if is_brokered(before) || is_brokered(after) {
        return false;
    }
    let (Ok(before), Ok(after)) = (Table::try_from(before), Table::try_from(after)) else {
        return false;
    };
    let (before, after) = (leaves(&before), leaves(&after));
    let differ =
        before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
    differ.into_iter().all(|key| {
        IN_PLACE.iter().any(|live| key.starts_with(live)) && !NOT_IN_PLACE.contains(&key.as_str())
    })
}

/// What is another in `after` than in a text without secrets, as far as that tells.
///
/// # Errors
/// If the text is no TOML.
pub fn changes_of_shown(before: &str, after: &Config) -> Result<Vec<ChangeView>, Error> {
    let before: Table = before
        .parse()
        .map_err(|source| Error::in_file(std::path::Path::new("(the server)"), before, source))?;
    let (before, after) = (leaves(&before), leaves(&shown(after)?));
    Ok(between(&before, &after, |key| before.get(key) != after.get(key)))
}

/// A configuration in which what stands for secrets is what is in force.
pub struct Restored {
    /// It, not checked.
    pub config: Config,
    /// The secrets of sinks among these that would go to another address than they do now.
    pub elsewhere: Vec<String>,
}

/// A configuration with the secrets that are in force at the same keys, wherever it has what stands for them: a
/// hidden value is the one that is shown like this now.
///
/// # Errors
/// The keys where none is.
pub fn restored(config: &Config, current: &Config) -> Result<Restored, Vec<String>> {
    let unwritable = |_| vec!["(the text)".to_owned()];
    let mut then = table(config).map_err(unwritable)?;
    let masked = Value::Table(shown(current).map_err(unwritable)?);
    let bare = Value::Table(table(current).map_err(unwritable)?);
    let mut found = Found::default();
    for (key, value) in &mut then {
        restore(value, key, (masked.get(key), bare.get(key)), &mut found);
    }
    if !found.missing.is_empty() {
        return Err(found.missing);
    }
    let config: Config = then.try_into().map_err(|_| vec!["(the text)".to_owned()])?;
    let goes_elsewhere = |key: &String| {
        let sink = |of: &Config| {
            let rest = key.strip_prefix("sinks.")?;
            of.sinks.iter().find(|sink| rest.starts_with(&format!("{}.", sink.name))).map(addresses)
        };
        sink(&config) != sink(current)
    };
    let elsewhere = found.filled.into_iter().filter(goes_elsewhere).collect();
    Ok(Restored { config, elsewhere })
}

/// Where a sink's secrets go, and whom it believes to be there.
fn addresses(sink: &SinkConfig) -> Leaves {
    let mut addresses = Table::try_from(sink).map(|table| leaves(&table)).unwrap_or_default();
    addresses.retain(|key, _| {
        let last = key.rsplit('.').next().unwrap_or_default();
        ["url", "token_url", "ca_file"].contains(&last)
    });
    addresses
}

/// What stood for secrets, by its key.
#[derive(Default)]
struct Found {
    filled: Vec<String>,
    /// Nothing in force is shown like this.
    missing: Vec<String>,
}

fn restore(
    past: &mut Value,
    key: &str,
    (masked, bare): (Option<&Value>, Option<&Value>),
    found: &mut Found,
) {
    match past {
        Value::Table(fields) => {
            for (name, value) in fields {
                let at = |now: Option<&'_ Value>| now.and_then(|now| now.get(name)).cloned();
                let (masked, bare) = (at(masked), at(bare));
                restore(value, &format!("{key}.{name}"), (masked.as_ref(), bare.as_ref()), found);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter_mut().enumerate() {
                let name = name_of(item, n);
                let at = |now: Option<&Value>| {
                    let all = now.and_then(Value::as_array).into_iter().flatten().enumerate();
                    all.filter(|(n, one)| name_of(one, *n) == name)
                        .map(|(_, one)| one.clone())
                        .next()
                };
                let (masked, bare) = (at(masked), at(bare));
                restore(item, &format!("{key}.{name}"), (masked.as_ref(), bare.as_ref()), found);
            }
        }
        Value::String(text) if text.contains(HIDDEN) || text.contains(HIDDEN_PASSWORD) => {
            match (masked, bare) {
                (Some(Value::String(now)), Some(bare)) if now == text => {
                    *past = bare.clone();
                    found.filled.push(key.to_owned());
                }
                _ => found.missing.push(key.to_owned()),
            }
        }
        _ => {}
    }
}

fn table(config: &Config) -> Result<Table, Error> {
    Table::try_from(config).map_err(|source| Error::Unwritable { source: Box::new(source) })
}

fn shown(config: &Config) -> Result<Table, Error> {
    table(&config.clone().without_secrets())
}

fn between(before: &Leaves, after: &Leaves, differs: impl Fn(&String) -> bool) -> Vec<ChangeView> {
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let json = |value: Option<&Value>| {
        value.map_or(serde_json::Value::Null, |v| serde_json::to_value(v).unwrap_or_default())
    };
    let change = |key: &String| {
        let (old, mut new) = (json(before.get(key)), json(after.get(key)));
        if old == new {
            new = format!("{HIDDEN}, another").into();
        }
        let comes_or_goes = old.is_null() || new.is_null();
        let applies = if is_live(key, comes_or_goes) { "live" } else { "restart" };
        ChangeView { key: key.clone(), before: old, after: new, applies: applies.into() }
    };
    keys.into_iter().filter(|key| differs(key)).map(change).collect()
}

/// Whether a running server takes another value of a key.
fn is_live(key: &str, comes_or_goes: bool) -> bool {
    let (section, key) = key.split_once('.').unwrap_or((key, ""));
    match section {
        // What is sealed is of the old domain, and how far it is says nothing of the new one.
        "sinks" => comes_or_goes || key.split_once('.').is_none_or(|(_, of)| of != "domain"),
        "server" => !FIXED_OF_SERVER.contains(&key.split_once('.').map_or(key, |(first, _)| first)),
        "freezes" | "partners" | "service_levels" => true,
        _ => false,
    }
}

/// Every value by its key; a list whose items have names is told by these, any other is one value.
fn leaves(table: &Table) -> Leaves {
    let mut leaves = Leaves::new();
    for (key, value) in table {
        collect(key.clone(), value, &mut leaves);
    }
    leaves
}

fn collect(key: String, value: &Value, leaves: &mut Leaves) {
    match value {
        Value::Table(fields) => {
            for (name, value) in fields {
                collect(format!("{key}.{name}"), value, leaves);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.get("name").is_some()) => {
            for (n, item) in items.iter().enumerate() {
                collect(format!("{key}.{}", name_of(item, n)), item, leaves);
            }
        }
        other => drop(leaves.insert(key, other.clone())),
    }
}

fn name_of(item: &Value, n: usize) -> String {
    item.get("name").and_then(Value::as_str).map_or_else(|| n.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    const SINK: &str = "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"http://a:b@c/d?e=f\"\n\
                        signing_secret = \"whsec_AAAA\"\n";

    #[test]
    fn each_change_says_whether_it_needs_a_restart() {
        let after = format!(
            "{SINK}timeout_ms = 5\n[sinks.policy]\nconcurrency_max = 2\nbreaker_failures = 7\n\
             [server]\nbatch_max = 9\nthreads = 2\n[[freezes]]\nfrom = \"2026-01-01T00:00:00Z\"\n\
             until = \"2026-01-02T00:00:00Z\"\nreason = \"sale\"\n"
        );
        let changes = changes(&config(SINK), &config(&after)).unwrap();
        let told: Vec<_> = changes.iter().map(|c| (c.key.as_str(), c.applies.as_str())).collect();
        assert_eq!(
            told,
            [
                ("freezes", "live"),
                ("server.batch_max", "live"),
                ("server.threads", "restart"),
                ("sinks.erp.policy.breaker_failures", "live"),
                ("sinks.erp.policy.concurrency_max", "live"),
                ("sinks.erp.timeout_ms", "live"),
            ]
        );
        assert_eq!((&changes[1].before, &changes[1].after), (&1000.into(), &9.into()));
        assert!(super::changes(&config(SINK), &config(SINK)).unwrap().is_empty());
    }

    #[test]
    fn a_secret_is_never_shown_and_its_change_is() {
        let other = SINK.replace("AAAA", "BBBB").replace("a:b@", "a:z@").replace("e=f", "e=y");
        let changes = changes(&config(SINK), &config(&other)).unwrap();
        let keys: Vec<_> = changes.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(keys, ["sinks.erp.signing_secret", "sinks.erp.url"]);
        let text = format!("{changes:?}");
        assert!(
            !text.contains("AAAA")
                && !text.contains("BBBB")
                && !text.contains(":z@")
                && !text.contains("e="),
            "{text}"
        );
    }

    #[test]
    fn what_stands_for_a_secret_is_the_one_in_force_or_is_named() {
        let now = config(SINK);
        let mut then = now.clone();
        then.sinks[0].timeout_ms = 5;
        let text = then.clone().without_secrets().to_toml().unwrap();
        assert!(text.contains("(hidden)") && text.contains(":hidden@"), "{text}");
        let all = restored(&config(&text), &now).unwrap();
        assert_eq!((all.config, all.elsewhere), (then, Vec::<String>::new()));
        let gone = config(&SINK.replace("signing_secret", "# signing_secret"));
        let missing = restored(&config(&text), &gone).err();
        assert_eq!(missing, Some(vec!["sinks.erp.signing_secret".to_owned()]));
        let other = text.replace("name = \"erp\"", "name = \"erp2\"");
        let missing = restored(&config(&other), &now).err().unwrap();
        assert_eq!(missing, ["sinks.erp2.signing_secret", "sinks.erp2.url"]);
        // A password belongs to its whole address.
        let moved = text.replace("hidden@c", "hidden@d");
        assert_eq!(restored(&config(&moved), &now).err().unwrap(), ["sinks.erp.url"]);
    }

    #[test]
    fn a_secret_that_stays_hidden_goes_where_it_went() {
        let sink = SINK.replace("a:b@", "").replace("?e=f", "");
        let auth = "[sinks.connector]\nauth = { kind = \"oauth2\", token_url = \"https://t/\", \
                    client_id = \"i\", client_secret = \"s\" }\n";
        let now = config(&format!(
            "{sink}{auth}[[sinks]]\nname = \"erp2\"\ndomain = \"finance\"\nurl = \"http://b/\"\n"
        ));
        let text = now.clone().without_secrets().to_toml().unwrap();
        let elsewhere = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            restored(&config(&text.replace(from, to)), &now).unwrap().elsewhere
        };
        let both = ["sinks.erp.connector.auth.client_secret", "sinks.erp.signing_secret"];
        assert_eq!(elsewhere("http://c/", "http://d/"), both);
        assert_eq!(elsewhere("https://t/", "https://u/"), both);
        assert_eq!(elsewhere("http://b/", "http://d/"), Vec::<String>::new());
        assert_eq!(elsewhere("client_id = \"i\"", "client_id = \"j\""), Vec::<String>::new());
    }
}
