//! `holdfast service-levels`: what a running server promises, and how far it is kept.

use std::io::{BufWriter, Write};

use clap::Args;
use holdfast::telemetry::{ServiceLevelView, State};
use reqwest::Method;

use super::{
    Error, Outcome,
    ask::{Server, read},
};

/// Exits with 1 if one is breached.
#[derive(Debug, Args)]
pub struct ServiceLevels {
    /// Print the server's answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl ServiceLevels {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let said = self.server.call(Method::GET, &["v1", "service-levels"], &[])?;
        let levels: Vec<ServiceLevelView> = read(said["service_levels"].clone())?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        let written = match self.json {
            true => writeln!(out, "{said:#}"),
            false => print(&mut out, &levels),
        };
        written.and_then(|()| out.flush()).map_err(Error::Output)?;
        let breached = levels.iter().any(|level| level.state == State::Breached);
        Ok(if breached { Outcome::Bad } else { Outcome::Good })
    }
}

fn print(out: &mut impl Write, levels: &[ServiceLevelView]) -> std::io::Result<()> {
    if levels.is_empty() {
        return writeln!(out, "no service levels are configured");
    }
    for level in levels {
        let ServiceLevelView { name, objective, good, total, percent, target_percent, .. } = level;
        let of = level.sink.as_ref().map(|sink| format!(" of {sink}")).unwrap_or_default();
        let within = level.within_ms.map(|ms| format!(" within {ms} ms")).unwrap_or_default();
        writeln!(out, "{name}: {}; {objective}{of}{within}", level.state.as_str())?;
        writeln!(out, "  {percent:.3} % of {total} good ({good}), {target_percent} % promised")?;
        writeln!(
            out,
            "  burn rate {:.2} over an hour, {:.2} over six; {:.1} % of the budget left of {} h",
            level.burn_rate_1h, level.burn_rate_6h, level.budget_left_percent, level.window_hours
        )?;
    }
    Ok(())
}
