//! Changes of the configuration of a running server. A change is checked as a whole and everything that it
//! needs is made; then it is written down in the log; then it is applied, which can't fail. So a change is
//! applied whole or not at all, and what is in force stands in the history, with who, when and why.
//!
//! A change that was begun goes on if whoever asked for it goes away. A process that dies between the record
//! and what follows has nothing half done: sinks have their places in the log, and a start goes by its file.

use std::{path::PathBuf, time::Duration};

use holdfast::{
    api,
    config::{Config, Overrides, change},
    delivery::{self, Change, Handle},
    engine::Engine,
    model::{
        configuration::{ChangeView, HistoryView, NotApplied, Proposal, VersionView},
        sink::wish::By,
    },
    observe,
    sinks::{
        self,
        reconcile::{self, Reconcilers},
    },
    telemetry::Observed,
    wal::FileStorage,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as Turns, MutexGuard};

use super::{options, partners};

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
    /// One change at a time, and none once it is true.
    changing: Turns<bool>,
}

/// What a change is made to.
pub struct FarEnd<'a> {
    /// Its log has the history.
    pub engine: &'a Engine,
    /// The sinks.
    pub handle: &'a Handle,
    /// What compares their partners' stock.
    pub reconcilers: &'a Reconcilers,
    /// The server in front.
    pub front: &'a api::State,
    /// What is promised.
    pub observed: &'a Observed,
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
    partners: api::Partners,
    sinks: Change<FileStorage>,
    reconcilers: Vec<reconcile::Made<FileStorage>>,
}

impl Control {
    /// Of a server that was started with this configuration.
    pub fn new(origin: Origin, config: Config) -> Self {
        Self { origin, current: Mutex::new(config), changing: Turns::new(false) }
    }

    /// How long accepted requests may take at the end, and sinks to come to rest.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.current.lock().server.shutdown_grace_ms)
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

    /// The turn to make a change; `None` once it is closed.
    pub async fn turn(&self) -> Option<MutexGuard<'_, bool>> {
        Some(self.changing.lock().await).filter(|closed| !**closed)
    }

    /// Waits for the change under way; none is made from here on.
    pub async fn close(&self) {
        *self.changing.lock().await = true;
    }

    /// Applies a configuration, all of it or nothing. Whoever calls has the [turn](Control::turn), and does
    /// not drop the future.
    pub async fn apply(
        &self,
        far_end: &FarEnd<'_>,
        proposal: Proposal,
        by: By,
    ) -> Result<VersionView, NotApplied> {
        let FarEnd { engine, handle, reconcilers, front, observed } = far_end;
        if let Some(freeze) = handle.freeze().filter(|_| !by.forced) {
            return Err(NotApplied::Frozen { until: freeze.until, reason: freeze.reason });
        }
        let ready = self.prepare(far_end, proposal)?;
        if engine.configurations().is_empty() {
            let first = By { who: "start".into(), reason: "the first".into(), forced: false };
            self.write(engine, &first, Vec::new(), self.shown()).await?;
        }
        let view = self.write(engine, &by, ready.changes, shown(&ready.config)).await?;
        let Ready { config, partners, sinks, reconcilers: made, .. } = ready;
        *self.current.lock() = config.clone();
        front.set_configuration(shown(&config));
        front.set_options(options::api(&config.server));
        front.set_partners(partners);
        observed.promise(observe::promises(&config.service_levels));
        engine.set_tax_codes(config.tax_codes());
        handle.set_freezes(config.freezes.clone());
        handle.apply(sinks, self.grace()).await;
        let stays = |sink: &str| config.sinks.iter().any(|one| one.name == sink);
        reconcilers.replace(made, stays);
        tracing::info!(version = view.version, by = view.by, reason = view.reason, "configured");
        Ok(view)
    }

    /// Checks a change and makes what it needs; changes nothing.
    fn prepare(&self, far_end: &FarEnd<'_>, proposal: Proposal) -> Result<Ready, NotApplied> {
        let invalid = |error: holdfast::config::Error| NotApplied::Invalid(error.to_string());
        let before = self.current.lock().clone();
        let config = self.read(far_end.engine, proposal, &before)?;
        let changes = change::changes(&before, &config).map_err(invalid)?;
        if changes.is_empty() {
            return Err(NotApplied::Same);
        }
        far_end.handle.check_kept_by(&config.sinks).map_err(unprepared)?;
        let fixed = changes.iter().filter(|change| change.applies != "live");
        let fixed: Vec<_> = fixed.map(|change| change.key.clone()).collect();
        if !fixed.is_empty() {
            return Err(NotApplied::NeedsRestart(fixed));
        }
        let FarEnd { engine, handle, .. } = far_end;
        let wrong = |error: super::Error| NotApplied::Invalid(error.to_string());
        let partners = partners::partners(&config, |name| std::env::var(name).ok());
        let partners = partners.map_err(wrong)?;
        partners::check_live(&config, engine).map_err(wrong)?;
        let sinks = sinks::prepare(engine, handle, &before.sinks, &config.sinks);
        let sinks = sinks.map_err(unprepared)?;
        let changed = config.sinks.iter().filter(|new| !before.sinks.contains(new));
        let reconcilers = changed.map(|sink| {
            let progress = handle.progress(&sink.name).or_else(|| sinks.progress(&sink.name));
            reconcile::make(engine, sink, progress)
                .map_err(|reason| NotApplied::Invalid(format!("sinks.{}.{reason}", sink.name)))
        });
        let reconcilers = reconcilers.collect::<Result<_, _>>()?;
        Ok(Ready { config, changes, partners, sinks, reconcilers })
    }

    fn read(
        &self,
        engine: &Engine,
        proposal: Proposal,
        current: &Config,
    ) -> Result<Config, NotApplied> {
        let Origin { file, overrides } = &self.origin;
        let invalid = |error: holdfast::config::Error| NotApplied::Invalid(error.to_string());
        let (text, is_past) = match proposal {
            Proposal::File => return Config::load(file.as_deref(), overrides).map_err(invalid),
            Proposal::Toml(text) => (text, false),
            Proposal::Version(version) => {
                let found = written(engine).into_iter().find(|(known, _)| *known == version);
                (found.ok_or(NotApplied::NoVersion(version))?.1.toml, true)
            }
        };
        let place = std::path::Path::new("(the proposal)");
        let proposed = Config::parse(place, &text).map_err(invalid)?;
        let restored = change::restored(&proposed, current).map_err(|keys| match is_past {
            true => NotApplied::Hidden(keys),
            false => NotApplied::Invalid(format!(
                "{}: a hidden value stands for the one in force, and none that is shown like this is; \
                 give the value itself",
                keys.join(", ")
            )),
        })?;
        // What was in force before went there.
        if !is_past && !restored.elsewhere.is_empty() {
            return Err(NotApplied::Invalid(format!(
                "{}: the sink's address is another (`url`, `token_url` or `ca_file`), and a value that \
                 stays hidden goes where it went; give the value itself",
                restored.elsewhere.join(", ")
            )));
        }
        let variables = std::env::vars_os();
        restored.config.complete(place, &text, variables, overrides).map_err(invalid)
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

/// Why sinks can't be changed while the server runs.
fn unprepared(error: delivery::Error) -> NotApplied {
    match error {
        delivery::Error::Config { sink, reason } => {
            NotApplied::Invalid(format!("sinks.{sink}.{reason}"))
        }
        error
        @ (delivery::Error::OtherDomain { .. } | delivery::Error::OtherRecognition { .. }) => {
            NotApplied::Invalid(error.to_string())
        }
        error => NotApplied::Unstartable(error.to_string()),
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
