//! Watching a trial while it goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::{
    report::{Display, Seen},
    run::Progress,
};

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(200);

/// Makes a trial of this name, and shows how far it is meanwhile.
pub(super) fn shown<T>(name: &str, progress: &Arc<Progress>, trial: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| watch(name, progress, &over));
        // It ends with the trial, also with one that panics: a scope waits for its threads.
        let ended = Ended(&over, watching.thread().clone());
        let made = trial();
        drop(ended);
        made
    })
}

/// Tells whoever watches that it is over.
struct Ended<'a>(&'a AtomicBool, thread::Thread);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.unpark();
    }
}

fn watch(name: &str, progress: &Progress, over: &AtomicBool) {
    let mut display = Display::start(name);
    while !over.load(Relaxed) {
        thread::park_timeout(GLANCE);
        let Some(recording) = progress.recording.lock().clone() else { continue };
        display.tick(&Seen {
            elapsed: recording.started().elapsed().unwrap_or_default(),
            length: Duration::from_nanos(progress.length.load(Relaxed)),
            due: progress.due.load(Relaxed),
            ended: progress.ended.load(Relaxed),
            recording: &recording,
        });
    }
    display.finish();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_ends_with_the_trial_and_with_a_panic_in_it() {
        let progress = Arc::new(Progress::default());
        assert_eq!(shown("test", &progress, || 7), 7);
        let trial = || shown("test", &progress, || std::panic::resume_unwind(Box::new("broken")));
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(trial));
        assert!(broken.is_err());
    }
}
