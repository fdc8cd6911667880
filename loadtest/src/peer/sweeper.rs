//! What lets holds run out in a peer, which has no clock of its own for it: a thread that looks for overdue
//! ones ten times a second, as a user of such a peer would have one.

use std::{
    fmt::Display,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);
/// Holds that run out in one look at one time; while there are as many, the next look follows at once.
pub(super) const BATCH: u32 = 100;

/// The thread; ends when dropped.
#[derive(Debug)]
pub(super) struct Sweeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Starts one for the peer of this name. `sweep` lets some run out and says how many; where it fails
    /// that is told and the sweeper ends: holds stay, which the audit finds in the end as well.
    pub fn start<E: Display>(
        name: &'static str,
        mut sweep: impl FnMut() -> Result<u32, E> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let named = thread::Builder::new().name("sweeper".to_owned());
        let thread = named.spawn(move || {
            let mut pause = EVERY;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                match sweep() {
                    Ok(swept) => pause = if swept >= BATCH { Duration::ZERO } else { EVERY },
                    Err(error) => {
                        eprintln!("loadtest: {name}: holds no longer run out: {error}");
                        return;
                    }
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; a panic in it was printed.
            let _ = thread.join();
        }
    }
}
