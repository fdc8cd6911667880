//! `holdfast check-config`: prints the effective configuration (file, then environment) as a file
//! that says it, secrets hidden; or what is wrong, with exit code 2. With `--against` it prints what the
//! configuration would change of a running server's or of another file's, and what of it needs a restart.

use std::{io::Write, path::Path};

use clap::Args;
use holdfast::{
    config::{Config, Overrides, change},
    model::configuration::{ChangeView, ConfigurationView},
};
use reqwest::Method;

use super::{
    Error, Outcome, Source,
    ask::{Server, read},
    config::print_changes,
};

/// Check a configuration.
#[derive(Debug, Args)]
pub struct CheckConfig {
    #[command(flatten)]
    source: Source,
    /// Print what it changes of this one: the URL of a running server, or a file.
    #[arg(long, value_name = "URL|FILE")]
    against: Option<String>,
    /// The API key, where that server has partners.
    #[arg(long, env = "HOLDFAST_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

impl CheckConfig {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let config = self.source.load(&Overrides::default())?;
        let mut out = std::io::stdout().lock();
        let Some(against) = self.against else {
            let text = config.without_secrets().to_toml()?;
            out.write_all(text.as_bytes()).map_err(Error::Output)?;
            return Ok(Outcome::Good);
        };
        let changes = changes(&against, self.api_key, &config)?;
        print_changes(&mut out, &changes).map_err(Error::Output)?;
        let restart = changes.iter().filter(|change| change.applies != "live").count();
        let live = changes.len() - restart;
        writeln!(out, "{live} apply live, {restart} need a restart").map_err(Error::Output)?;
        Ok(Outcome::Good)
    }
}

fn changes(
    against: &str,
    api_key: Option<String>,
    config: &Config,
) -> Result<Vec<ChangeView>, Error> {
    if !against.starts_with("http://") && !against.starts_with("https://") {
        let before = Config::load(Some(Path::new(against)), &Overrides::default())?;
        return Ok(change::changes(&before, config)?);
    }
    let server = Server::at(against, api_key);
    let said = server.call(Method::GET, &["v1", "configuration"], &[])?;
    let ConfigurationView { toml } = read(said)?;
    Ok(change::changes_of_shown(&toml, config)?)
}
