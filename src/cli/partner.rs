//! `holdfast partner`: the partners that the log keeps, at a running server or in the data directory of a
//! stopped one. A new key is printed once, alone on the standard output, so that it can be sent straight
//! to where it is kept; what is said about it goes to the standard error.

use std::io::{BufWriter, Write, stdout};

use clap::{Args, Subcommand};
use holdfast::{
    engine::{Answer, Decision, Engine, Refusal},
    model::{
        partner::{AddPartner, Limits, PartnerEntry, PartnerView, RotateKey, Scope, Scopes},
        signature::ApiKey,
    },
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error, Outcome,
    ask::{Asked, read},
};

/// Who did it, where no server says who is asking.
const BY: &str = "command line";

/// See the module.
#[derive(Debug, Subcommand)]
pub enum Partner {
    /// Add a partner, and print its API key.
    Add(Add),
    /// Who may call, and what for.
    List(List),
    /// Give a partner another API key, and print it.
    Rotate(Rotate),
    /// Let none of a partner's keys be good any more.
    Revoke(Revoke),
}

/// Who is added.
#[derive(Debug, Args)]
pub struct Add {
    /// The name: lower-case letters, digits, `-` and `_`.
    name: String,
    /// What it may do; several with commas, or given several times.
    #[arg(long = "scope", required = true, value_delimiter = ',', value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// Requests a second, on the average.
    #[arg(long, value_name = "N")]
    rate_per_s: Option<u32>,
    /// Requests at once after a pause; without it as many as a second.
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Requests a day (UTC).
    #[arg(long, value_name = "N")]
    quota_per_day: Option<u64>,
    /// The largest body, where that is less than the server takes.
    #[arg(long, value_name = "N")]
    body_bytes_max: Option<u64>,
    /// The longest that a body may take, and then the answer.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Print the whole answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: Asked,
}

/// What is shown.
#[derive(Debug, Args)]
pub struct List {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Whose key is replaced.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The partner.
    name: String,
    /// How long the present key stays good; 0: not at all, nor any older one.
    #[arg(long, default_value_t = RotateKey::default().grace_ms, value_name = "MS")]
    grace_ms: u64,
    /// Print the whole answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Who is revoked.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The partner.
    name: String,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Deserialize)]
struct Partners {
    partners: Vec<PartnerView>,
}

#[derive(Deserialize)]
struct WithKey {
    api_key: String,
}

impl Partner {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        match self {
            Self::Add(add) => add.run(),
            Self::List(list) => list.run(),
            Self::Rotate(rotate) => rotate.run(),
            Self::Revoke(Revoke { name, asked }) => {
                let path = ["v1", "partners", &name];
                asked.send(Method::DELETE, &path, None, |engine| {
                    settled(engine, engine.revoke_partner(&name, BY)).map(|p| told(engine, &p))
                })?;
                say(&format!("{name}: revoked, its keys are good no longer"))
            }
        }
    }
}

impl Add {
    fn run(self) -> Result<Outcome, Error> {
        let add = AddPartner {
            name: self.name,
            scopes: Scopes::of(&self.scopes),
            rate_per_s: self.rate_per_s,
            burst: self.burst,
            quota_per_day: self.quota_per_day,
            body_bytes_max: self.body_bytes_max,
            timeout_ms: self.timeout_ms,
        };
        if self
            .asked
            .configuration()?
            .is_some_and(|c| c.partners.iter().any(|p| p.name == add.name))
        {
            let reason = "is in the configuration; use another name".to_owned();
            return Err(Error::Partner { name: add.name, reason });
        }
        self.asked.begin()?;
        let said =
            self.asked.send(Method::POST, &["v1", "partners"], Some(&json!(add)), |engine| {
                with_key(engine, |key| engine.add_partner(&add, &key.hash(), BY))
            })?;
        show_key(&add.name, said, self.json)
    }
}

impl Rotate {
    fn run(self) -> Result<Outcome, Error> {
        let (name, grace_ms) = (&self.name, self.grace_ms);
        let path = ["v1", "partners", name, "rotate"];
        let body = json!(RotateKey { grace_ms });
        let said = self.asked.send(Method::POST, &path, Some(&body), |engine| {
            with_key(engine, |key| engine.rotate_partner(name, &key.hash(), grace_ms, BY))
        })?;
        show_key(name, said, self.json)
    }
}

impl List {
    fn run(self) -> Result<Outcome, Error> {
        let said = self.asked.send(Method::GET, &["v1", "partners"], None, |engine| {
            let live = settled(engine, engine.listed_partners())?;
            let now_ms = engine.now().millis();
            let views: Vec<_> = live.iter().map(|partner| partner.view(now_ms)).collect();
            Ok(json!({"partners": views}))
        })?;
        let mut out = BufWriter::new(stdout().lock());
        let written = match self.json {
            true => writeln!(out, "{said:#}"),
            false => print(&mut out, &read::<Partners>(said)?.partners),
        };
        written.and_then(|()| out.flush()).map_err(Error::Output)?;
        Ok(Outcome::Good)
    }
}

fn settled<T>(engine: &Engine, decision: Decision<T>) -> Result<T, Refusal> {
    engine.settle_blocking(decision).map(|Answer { value, .. }| value)
}

/// As the server tells it.
fn told(engine: &Engine, partner: &PartnerEntry) -> Value {
    json!(partner.view(engine.now().millis()))
}

/// Makes a key, has it written down, and shows it.
fn with_key(
    engine: &Engine,
    change: impl FnOnce(&ApiKey) -> Decision<PartnerEntry>,
) -> Result<Value, Refusal> {
    let key = ApiKey::random().map_err(|wrong| Refusal::Overloaded { what: wrong.0 })?;
    let mut shown = told(engine, &settled(engine, change(&key))?);
    shown["api_key"] = key.reveal().into();
    Ok(shown)
}

fn show_key(name: &str, said: Value, json: bool) -> Result<Outcome, Error> {
    if json {
        return say(&format!("{said:#}"));
    }
    eprintln!("the API key of {name}, shown this once:");
    say(&read::<WithKey>(said)?.api_key)
}

fn say(text: &str) -> Result<Outcome, Error> {
    writeln!(stdout().lock(), "{text}").map_err(Error::Output)?;
    Ok(Outcome::Good)
}

fn print(out: &mut impl Write, partners: &[PartnerView]) -> std::io::Result<()> {
    for partner in partners {
        let scopes: Vec<_> = partner.scopes.iter().map(Scope::as_str).collect();
        let (name, source) = (&partner.name, partner.source.as_str());
        let revoked = if partner.revoked { ", revoked" } else { "" };
        writeln!(out, "{name}: in the {source}{revoked}; {}", scopes.join(", "))?;
        let limits = limits(&partner.limits);
        if !limits.is_empty() {
            writeln!(out, "  {}", limits.join(", "))?;
        }
        for until in &partner.old_keys_until {
            writeln!(out, "  an old key is good until {until}")?;
        }
    }
    Ok(())
}

fn limits(limits: &Limits) -> Vec<String> {
    let wide = |value: Option<u32>| value.map(u64::from);
    [
        (wide(limits.rate_per_s), "requests a second"),
        (wide(limits.burst), "at once"),
        (limits.quota_per_day, "a day"),
        (limits.body_bytes_max, "bytes a body"),
        (limits.timeout_ms, "ms at most"),
    ]
    .into_iter()
    .filter_map(|(value, what)| value.map(|value| format!("{value} {what}")))
    .collect()
}
