//! `holdfast check-config`: prints the effective configuration (file, then environment) as a file
//! that says it, secrets hidden; or what is wrong, with exit code 2.

use std::io::Write;

use super::{Error, Outcome, Source};
use holdfast::config::Overrides;

/// Runs it.
pub fn run(source: &Source) -> Result<Outcome, Error> {
    let config = source.load(&Overrides::default())?;
    let text = config.without_secrets().to_toml()?;
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::Output)?;
    Ok(Outcome::Good)
}
