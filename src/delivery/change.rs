//! Another set of sinks for a far end that runs: some go on under other settings, some are started anew, some
//! come, some go.
//!
//! # What it promises
//!
//! - A [`Change`] that was made can be applied without failing; one that is dropped has changed nothing.
//! - A sink that comes begins where it would at a start: where its records in the log say, or where the log
//!   begins. The log is kept for it from the moment the change is made.
//! - A sink that goes or is started anew ends as it would with the process: attempts under way may end for
//!   a time, what is sealed goes out later with the same identity and bytes, and what was read and not sealed
//!   is read again by whoever goes on. So two never serve one partner under one name.
//! - A sink that went is forgotten by nobody: coming back it goes on where it was, if the log still has that.
//! - A sink that broke goes on like any other once its settings are changed: from what the log says of it, since
//!   nobody vouches for what it left in memory.

use std::{sync::Arc, time::Duration};

use super::{
    Error, Partner,
    handle::Handle,
    running::{self, Made, Running},
};
use crate::{
    config::{Domain, SinkConfig, written_domain, written_recognition},
    engine::Engine,
    feed::Progress,
    model::sink::SinkState,
    wal::Storage,
};

/// A sink's settings, and what speaks to its partner.
pub(crate) type Settings = (SinkConfig, Box<dyn Partner>);

/// What becomes of a sink.
pub(crate) enum Turn {
    /// It goes on under other settings.
    Exchanged,
    /// It is started anew.
    Anew,
    /// It comes.
    Added,
}

/// See the module.
pub struct Change<S: Storage> {
    engine: Engine<S>,
    /// The names of all, in the order that they then have.
    order: Vec<String>,
    exchanged: Vec<Settings>,
    anew: Vec<Made<S>>,
    added: Vec<Made<S>>,
    /// Sinks for which the log is kept since they are to come.
    held: Vec<String>,
}

impl<S: Storage> Change<S> {
    /// A change that leaves the sinks of these names, and none else.
    pub(crate) fn new(engine: &Engine<S>, order: Vec<String>) -> Self {
        let (exchanged, anew, added, held) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { engine: engine.clone(), order, exchanged, anew, added, held }
    }

    /// What the feed and the delivery of a sink that comes will tell each other.
    pub fn progress(&self, sink: &str) -> Option<Arc<Progress>> {
        let is_it = |made: &&Made<S>| made.progress.name() == sink;
        self.added.iter().find(is_it).map(|made| made.progress.clone())
    }
}

impl<S: Storage> Drop for Change<S> {
    fn drop(&mut self) {
        for sink in &self.held {
            self.engine.release_hold(&Engine::<S>::sink_reader(sink));
        }
    }
}

impl Handle {
    /// Adds to a change what becomes of a sink; nothing is changed by it.
    ///
    /// # Errors
    /// If the sink can't begin: the log no longer has what it needs, it had another domain, or there is no
    /// thread to be had.
    pub(crate) fn make<S: Storage>(
        &self,
        change: &mut Change<S>,
        settings: Settings,
        turn: &Turn,
    ) -> Result<(), Error> {
        if let Some(progress) = self.progress(&settings.0.name) {
            check_kept(&progress, &settings.0)?;
        }
        match turn {
            Turn::Exchanged => change.exchanged.push(settings),
            Turn::Anew => {
                let sink = settings.0.name.clone();
                let progress = self.progress(&sink).ok_or(Error::Gone(sink))?;
                change.anew.push(Made::successor(settings, progress)?);
            }
            Turn::Added => {
                let progress = self.progress_of_new(&change.engine, &settings.0)?;
                change.held.push(settings.0.name.clone());
                let made = Made::new(&change.engine, settings, progress, self.around());
                change.added.push(made?);
            }
        }
        Ok(())
    }

    /// A sink that went in this life of the process is as its feed left it; any other is as the log has it.
    fn progress_of_new<S: Storage>(
        &self,
        engine: &Engine<S>,
        config: &SinkConfig,
    ) -> Result<Arc<Progress>, Error> {
        if let Some(progress) = self.parted(&config.name) {
            check_kept(&progress, config)?;
            let of_log = running::of_log_if_broken(engine, &progress);
            let sink = config.name.clone();
            let of_log = of_log.map_err(|source| Error::Unknown { sink, source })?;
            progress.begin_anew(config.letters_max, of_log);
            return Ok(progress);
        }
        let state = engine.sink_states().remove(&config.name).unwrap_or_default();
        check_kept_of_log(&state, config)?;
        Ok(Arc::new(Progress::new(&config.name, config.domain, config.letters_max, state)))
    }

    /// Puts a change in force: it is when this returns, which takes as long as attempts that are under way
    /// at sinks that end, up to `grace`. Must not be dropped before.
    pub async fn apply<S: Storage>(&self, mut change: Change<S>, grace: Duration) {
        let engine = change.engine.clone();
        change.held.clear();
        for (config, partner) in std::mem::take(&mut change.exchanged) {
            if let Some(sink) = self.sink(&config.name) {
                sink.exchange(config, partner);
            }
        }
        let (anew, added) = (std::mem::take(&mut change.anew), std::mem::take(&mut change.added));
        let stays = |sink: &Arc<Running>| {
            change.order.iter().any(|name| name == sink.name())
                && anew.iter().all(|made| made.config.name != sink.name())
        };
        let (mut sinks, ending): (Vec<_>, Vec<_>) = self.sinks().into_iter().partition(stays);
        if !running::end(&ending, grace).await {
            tracing::warn!("attempts under way were given up; what they brought is sent again");
        }
        running::settle(&engine, &ending).await;
        for made in added {
            self.forget_parted(&made.config.name);
            sinks.push(Arc::new(made.begin(&engine, self.around())));
        }
        for made in anew {
            sinks.push(Arc::new(made.begin_anew(&engine, self.around()).await));
        }
        for gone in ending.iter().filter(|sink| !change.order.iter().any(|n| n == sink.name())) {
            tracing::warn!(
                sink = gone.name(),
                "this sink is configured no longer; the log isn't kept for it"
            );
            self.part_from(gone.progress.clone());
            engine.release_hold(&Engine::<S>::sink_reader(gone.name()));
        }
        sinks.sort_by_key(|sink| change.order.iter().position(|name| name == sink.name()));
        self.set_sinks(sinks);
    }
}

/// What is sealed is of one domain, and how far a sink is says nothing of another; and of an order whose
/// revenue is recognised at one event, the feed can't tell what it would have been at another.
pub(super) fn check_kept(progress: &Progress, config: &SinkConfig) -> Result<(), Error> {
    is_of(config, Some(progress.domain()))?;
    progress.with_state(|state| check_recognition(state, config))
}

/// The same of a sink that nobody ran in this life of the process.
pub(super) fn check_kept_of_log(state: &SinkState, config: &SinkConfig) -> Result<(), Error> {
    is_of(config, written(state).and_then(written_domain))?;
    check_recognition(state, config)
}

/// What the log says of the settings that its last batches were sealed by. As long as it sealed nothing, a sink
/// begins like a new one.
fn written(state: &SinkState) -> Option<&str> {
    let last = state.configurations.last().filter(|_| state.last_number > 0);
    last.map(|(_, text)| text.as_str())
}

fn check_recognition(state: &SinkState, config: &SinkConfig) -> Result<(), Error> {
    match written(state).and_then(written_recognition) {
        Some(had) if had != config.recognition => {
            Err(Error::OtherRecognition { sink: config.name.clone(), had })
        }
        _ => Ok(()),
    }
}

fn is_of(config: &SinkConfig, had: Option<Domain>) -> Result<(), Error> {
    match had {
        Some(had) if had != config.domain => {
            Err(Error::OtherDomain { sink: config.name.clone(), had })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
