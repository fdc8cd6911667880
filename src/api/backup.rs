//! `GET /v1/backup`: a backup of the running server, as it is made ([`crate::wal::backup`]).
//!
//! One at a time. What is not read within [`STALL`], or slower on the whole than [`BYTES_A_SECOND_MIN`], is
//! ended: it pins the log from where it has got to. So is one that a shutdown meets.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::{Body, Bytes},
    extract,
    http::header,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{State, codes, problem::Problem};
use crate::{
    telemetry::{Exposition, Kind},
    wal::{
        FileStorage,
        backup::{Backup, Piece, frames},
    },
};

/// Pieces that may wait for the reader: a megabyte.
const PIECES_AHEAD: usize = 4;
/// How long a reader may take for a piece.
const STALL: Duration = Duration::from_secs(30);
/// How slow a reader may be on the whole, after the first [`STALL`].
const BYTES_A_SECOND_MIN: u64 = 1 << 20;

/// The one permit to make a backup, the configuration that goes with it, and what became of those that were
/// asked for.
pub(super) struct Backups {
    one: Arc<Semaphore>,
    configuration: Mutex<String>,
    done: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    last_lsn: AtomicU64,
    last_at_ms: AtomicU64,
    /// Where none was made since, this is how long ago at least the last one is.
    started_at: SystemTime,
}

impl Default for Backups {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            one: Arc::new(Semaphore::new(1)),
            configuration: Mutex::default(),
            done: zero(),
            failed: zero(),
            refused: zero(),
            last_lsn: zero(),
            last_at_ms: zero(),
            started_at: SystemTime::now(),
        }
    }
}

impl Backups {
    /// What goes into every backup from here on as the configuration.
    pub(super) fn set_configuration(&self, text: String) {
        *self.configuration.lock() = text;
    }

    fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.one.clone().try_acquire_owned().map_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let detail = "a backup is being made; there is one at a time";
            Problem::detailed(&codes::OVERLOADED, detail)
        })
    }

    /// Puts the figures into a page of metrics.
    pub(super) fn expose(&self, text: &mut Exposition) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        text.family("holdfast_backups", Kind::Counter, None, "Backups by what became of them.");
        for (result, counter) in
            [("done", &self.done), ("failed", &self.failed), ("refused", &self.refused)]
        {
            text.sample("holdfast_backups_total", &[("result", result)], load(counter));
        }
        let running = u8::from(self.one.available_permits() == 0);
        text.gauge("holdfast_backup_running", "1 while a backup is made.", running);
        let help = "All below is in the last backup that was sent whole.";
        text.gauge("holdfast_backup_last_lsn", help, load(&self.last_lsn));
        let help = "When that was, in seconds since 1970.";
        let at = load(&self.last_at_ms) as f64 / 1e3;
        text.gauge("holdfast_backup_last_timestamp_seconds", help, at);
        let started_at = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let help = "When the process started, in seconds since 1970.";
        text.gauge("holdfast_start_timestamp_seconds", help, started_at.as_secs_f64());
    }
}

/// Makes a backup of this moment and sends it.
#[utoipa::path(get, path = "/v1/backup", tag = "operations",
    responses((status = 200, description = "The backup, for `holdfast backup`.",
        content((Vec<u8> = "application/octet-stream")))))]
pub(super) async fn get(extract::State(state): extract::State<State>) -> Result<Response, Problem> {
    let engine = state.engine()?.clone();
    let permit = state.backups().begin()?;
    let failed = |why: &dyn std::fmt::Display| {
        tracing::error!(%why, "a backup could not be begun");
        state.backups().failed.fetch_add(1, Ordering::Relaxed);
        Problem::new(&codes::INTERNAL)
    };
    let begun = spawn_blocking(move || engine.backup()).await;
    let backup = begun.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    let (give, pieces) = mpsc::channel(PIECES_AHEAD);
    let giving = Giving { state, give, deadline: deadline(backup.facts().bytes()) };
    spawn_blocking(move || giving.run(backup, permit));
    let octets = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((octets, Body::new(Pieces(pieces))).into_response())
}

fn deadline(bytes: u64) -> Instant {
    Instant::now() + STALL + Duration::from_secs(bytes / BYTES_A_SECOND_MIN)
}

/// Gives a backup to the reader of an answer; on a thread of its own.
struct Giving {
    state: State,
    give: mpsc::Sender<Bytes>,
    deadline: Instant,
}

impl Giving {
    fn run(self, backup: Backup<FileStorage>, permit: OwnedSemaphorePermit) {
        let end = backup.facts().end;
        let given = self.all(backup);
        let backups = self.state.backups();
        match given {
            Ok(()) => {
                backups.last_lsn.store(end.0, Ordering::Relaxed);
                let at = self.state.engine().map_or(0, |engine| engine.now().millis());
                backups.last_at_ms.store(at, Ordering::Relaxed);
                backups.done.fetch_add(1, Ordering::Relaxed);
                tracing::info!(lsn = end.0, "a backup was sent");
            }
            Err(why) => {
                backups.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%why, "a backup could not be ended");
                // A reader that is there learns why; one that is not, that it did not end.
                let _ = self.give.try_send(frames::failed(&why).into());
            }
        }
        drop(permit);
    }

    fn all(&self, backup: Backup<FileStorage>) -> Result<(), String> {
        let configuration = self.state.backups().configuration.lock().clone();
        let heading = frames::Heading { facts: backup.facts().clone(), configuration };
        self.send(frames::heading(&heading)).map_err(|e| e.to_string())?;
        let mut take = |piece: Piece<'_>| self.send(frames::piece(piece));
        backup.give(&mut take).map_err(|e| e.to_string())?;
        self.send(frames::done()).map_err(|e| e.to_string())
    }

    fn send(&self, frame: Vec<u8>) -> io::Result<()> {
        if self.state.is_draining() {
            return Err(io::Error::other("the server is shutting down"));
        }
        Handle::current().block_on(hand_over(&self.give, frame.into(), self.deadline))
    }
}

/// Gives a reader the next piece, within [`STALL`] and before the deadline of the whole.
async fn hand_over(give: &mpsc::Sender<Bytes>, piece: Bytes, deadline: Instant) -> io::Result<()> {
    let until = deadline.min(Instant::now() + STALL);
    match timeout_at(until, give.send(piece)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(io::Error::other("the reader has gone away")),
        Err(_) => Err(io::Error::other("the reader is too slow")),
    }
}

/// An answer's body that is made meanwhile.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: Bytes = Bytes::from_static(b"piece");

    /// How long it goes on with a reader that takes a piece so often, and how it ends.
    async fn gives(every: Duration, bytes: u64) -> (Duration, String) {
        let (give, mut pieces) = mpsc::channel(1);
        let reader = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                if pieces.recv().await.is_none() {
                    return;
                }
            }
        });
        let (began, deadline) = (Instant::now(), deadline(bytes));
        let error = loop {
            if let Err(error) = hand_over(&give, PIECE, deadline).await {
                break error;
            }
        };
        drop(give);
        reader.abort();
        (began.elapsed(), error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stalls_is_cut_off_and_so_is_one_that_is_slow_on_the_whole() {
        let slow = "the reader is too slow".to_owned();
        // It takes nothing: the first piece waits in the channel, the second for STALL.
        let stalls = gives(Duration::from_secs(3_600), 100 << 30).await;
        assert_eq!(stalls, (STALL, slow.clone()));
        // It takes one just in time, each time: then the whole counts, a second for each mebibyte.
        let drips = gives(STALL - Duration::from_secs(1), 90 << 20).await;
        assert_eq!(drips, (STALL + Duration::from_secs(90), slow.clone()));
        let (give, pieces) = mpsc::channel(1);
        drop(pieces);
        let gone = hand_over(&give, PIECE, deadline(1)).await.unwrap_err().to_string();
        assert_eq!(gone, "the reader has gone away");
    }
}
