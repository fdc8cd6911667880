//! `holdfast ready`: whether a server serves requests; for health checks, and for scripts that started one.

use std::time::{Duration, Instant};

use clap::Args;
use reqwest::Method;

use super::{Error, Outcome, ask::Server};

/// How often it is asked.
const POLL: Duration = Duration::from_millis(100);

/// Ask whether it serves.
#[derive(Debug, Args)]
pub struct Ready {
    /// How long to wait until it does, in seconds; 0: not at all.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(flatten)]
    server: Server,
}

impl Ready {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let begun = Instant::now();
        loop {
            match self.server.call(Method::GET, &["readyz"], &[]) {
                Ok(_) => return Ok(Outcome::Good),
                Err(Error::Server { .. }) if begun.elapsed().as_secs() < self.wait => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(POLL);
        }
    }
}
