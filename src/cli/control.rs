//! Changes of the configuration of a running server. A change is checked as a whole and everything that it
//! needs is made; then it is written down in the log; then it is applied, which can't fail. So a change is
//! applied whole or not at all, and what is in force stands in the history, with who, when and why.

use std::path::PathBuf;

use holdfast::{
    config::{Config, Overrides, SinkConfig, change},
    delivery::{Handle, Partner},
    engine::Engine,
    model::{
        configuration::{ChangeView, HistoryView, NotApplied, Proposal, VersionView},
        sink::wish::By,
    },
    sinks,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Where a server's configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Its file.
    pub file: Option<PathBuf>,
    /// What the command line says.
    pub overrides: Overrides,
}

/// See the module.
pub struct Control {
    origin: Origin,
    current: Mutex<Config>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

/// A version as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    view: VersionView,
    toml: String,
}

/// A change that is checked and ready.
struct Ready {
    config: Config,
    changes: Vec<ChangeView>,
    sinks: Vec<(SinkConfig, Box<dyn Partner>)>,
}

impl Control {
    /// Of a server that was started with this configuration.
    pub fn new(origin: Origin, config: Config) -> Self {
        Self { origin, current: Mutex::new(config), changing: tokio::sync::Mutex::new(()) }
    }

    /// What is in force, without secrets.
    pub fn shown(&self) -> String {
        shown(&self.current.lock())
    }

    /// What was in force.
    pub fn history(engine: &Engine) -> HistoryView {
        let mut versions: Vec<_> = written(engine).into_iter().map(|(_, w)| w.view).collect();
        let last = versions.len();
        for (n, version) in versions.iter_mut().enumerate() {
            version.state = if n + 1 == last { "current" } else { "past" }.to_owned();
        }
        HistoryView { versions }
    }

    /// Writes down that the server was started with another configuration than was in force last.
    pub async fn started(&self, engine: &Engine) -> Result<(), NotApplied> {
        let config = self.current.lock().clone();
        let toml = shown(&config);
        let Some((_, last)) = written(engine).pop().filter(|(_, last)| last.toml != toml) else {
            return Ok(());
        };
        let changes = change::changes_of_shown(&last.toml, &config).unwrap_or_default();
        let by = By {
            who: "start".into(),
            reason: "the server was started with it".into(),
            forced: false,
        };
        self.write(engine, &by, changes, toml).await.map(drop)
    }

    /// Applies a configuration, all of it or nothing.
    pub async fn apply(
        &self,
        engine: &Engine,
        handle: &Handle,
        proposal: Proposal,
        by: By,
    ) -> Result<VersionView, NotApplied> {
        let _one = self.changing.lock().await;
        if let Some(freeze) = handle.freeze().filter(|_| !by.forced) {
            return Err(NotApplied::Frozen { until: freeze.until, reason: freeze.reason });
        }
        let ready = self.prepare(engine, handle, proposal)?;
        if engine.configurations().is_empty() {
            let first = By { who: "start".into(), reason: "the first".into(), forced: false };
            self.write(engine, &first, Vec::new(), self.shown()).await?;
        }
        let view = self.write(engine, &by, ready.changes, shown(&ready.config)).await?;
        handle.set_freezes(ready.config.freezes.clone());
        for (sink, partner) in ready.sinks {
            handle.reconfigure(sink, partner);
        }
        *self.current.lock() = ready.config;
        tracing::info!(version = view.version, by = view.by, reason = view.reason, "configured");
        Ok(view)
    }

    /// Checks a change and makes what it needs; changes nothing.
    fn prepare(
        &self,
        engine: &Engine,
        handle: &Handle,
        proposal: Proposal,
    ) -> Result<Ready, NotApplied> {
        let invalid = |error: holdfast::config::Error| NotApplied::Invalid(error.to_string());
        let before = self.current.lock().clone();
        let config = self.read(engine, proposal, &before)?;
        let changes = change::changes(&before, &config).map_err(invalid)?;
        if changes.is_empty() {
            return Err(NotApplied::Same);
        }
        let fixed = changes.iter().filter(|change| change.applies != "live");
        let fixed: Vec<_> = fixed.map(|change| change.key.clone()).collect();
        if !fixed.is_empty() {
            return Err(NotApplied::NeedsRestart(fixed));
        }
        // No sink has come or gone: that needs a restart.
        let old_of = |new: &SinkConfig| before.sinks.iter().find(|old| old.name == new.name);
        let pairs = config.sinks.iter().filter_map(|new| Some((old_of(new)?, new)));
        let pairs = pairs.filter(|(old, new)| old != new);
        let prepared = pairs.map(|(old, new)| {
            let wrong = |reason| NotApplied::Invalid(format!("sinks.{}.{reason}", new.name));
            sinks::prepare(handle, old, new).map_err(wrong)
        });
        let sinks = prepared.collect::<Result<_, _>>()?;
        Ok(Ready { config, changes, sinks })
    }

    fn read(
        &self,
        engine: &Engine,
        proposal: Proposal,
        current: &Config,
    ) -> Result<Config, NotApplied> {
        let Origin { file, overrides } = &self.origin;
        let text = match proposal {
            Proposal::File => {
                let read = Config::load(file.as_deref(), overrides);
                return read.map_err(|error| NotApplied::Invalid(error.to_string()));
            }
            Proposal::Toml(text) => text,
            Proposal::Version(version) => {
                let found = written(engine).into_iter().find(|(known, _)| *known == version);
                let (_, past) = found.ok_or(NotApplied::NoVersion(version))?;
                change::restored(&past.toml, current).map_err(NotApplied::Hidden)?
            }
        };
        let place = std::path::Path::new("(the proposal)");
        Config::from_parts(place, &text, std::env::vars_os(), overrides)
            .map_err(|error| NotApplied::Invalid(error.to_string()))
    }

    async fn write(
        &self,
        engine: &Engine,
        by: &By,
        changes: Vec<ChangeView>,
        toml: String,
    ) -> Result<VersionView, NotApplied> {
        let version = engine.configurations().last().map_or(1, |(version, _)| version + 1);
        let view = VersionView {
            version,
            at: engine.now(),
            by: by.who.clone(),
            reason: by.reason.clone(),
            forced: by.forced,
            state: "current".to_owned(),
            changes,
        };
        let written = Written { view: view.clone(), toml };
        let unwritable = |reason: String| NotApplied::Unwritable(reason);
        let text = serde_json::to_string(&written).map_err(|e| unwritable(e.to_string()))?;
        engine.configure(by, text).await.map_err(|e| unwritable(e.to_string()))?;
        Ok(view)
    }
}

fn shown(config: &Config) -> String {
    config.clone().without_secrets().to_toml().unwrap_or_default()
}

/// Every version in the log.
fn written(engine: &Engine) -> Vec<(u64, Written)> {
    let read = |(version, text): (u64, String)| Some((version, serde_json::from_str(&text).ok()?));
    engine.configurations().into_iter().filter_map(read).collect()
}
