//! The command line: one file a subcommand. What the subcommands promise together:
//!
//! - Results go to the standard output, everything else (the log of what happens, errors) to the
//!   standard error.
//! - The exit code tells what became of it: see [`Outcome`] and [`Error`].

mod ask;
mod backup;
mod books;
mod check_config;
mod config;
mod connector;
mod control;
mod dead_letters;
mod demo;
mod error;
mod export;
mod gateway;
mod hook;
mod latency;
mod logging;
mod observer;
mod options;
mod parked;
mod partner;
mod partners;
mod ready;
mod reconcile;
mod records;
mod restore;
mod server;
mod service_levels;
mod sinks;
mod stock;
mod trace;
mod wal;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

pub use error::Error;
use holdfast::config::{Config, Overrides};

/// The help's last lines.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  done, and something is wrong: refused lines, damage in the log, books that do not reconcile
  2  the arguments or the configuration are wrong
  3  it could not be done: the data directory, the server or a file is not usable
  4  the log was poisoned (a failed sync, say): the server stopped rather than promise falsely";

/// Reserves stock under a flash sale: durable, final answers in under a millisecond, never
/// oversold; behind it ERP and finance get the aggregated result.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, propagate_version = true)]
struct Cli {
    /// How the log of what happens is written to the standard error; what is in it: RUST_LOG.
    #[arg(long, global = true, value_enum, default_value_t = logging::Format::Text)]
    log_format: logging::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the HTTP API and deliver to the configured sinks, until SIGTERM or SIGINT.
    Serve(server::Serve),
    /// A flash sale over HTTP against a server of its own, with receivers that stand in for ERP and
    /// finance; ends with a report and exits with 1 unless everything reconciles.
    Demo(demo::Demo),
    /// Print the effective configuration, what is wrong with it, or what it would change.
    CheckConfig(check_config::CheckConfig),
    /// The configuration of a running server: apply, look back, go back.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Try a connector without its partner.
    #[command(subcommand)]
    Connector(connector::ConnectorCommand),
    /// Try a hook's rules without its partner.
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Stock in files.
    #[command(subcommand)]
    Stock(stock::Stock),
    /// The entries that finance gets, checked against the log of a stopped server.
    #[command(subcommand)]
    Books(books::Books),
    /// How the sinks of a running server stand, and what an operator does to them.
    #[command(subcommand)]
    Sinks(sinks::Sinks),
    /// Where the time of a running server's requests goes, by route and by stage.
    Latency(latency::Latency),
    /// What a running server promises, and how far it is kept.
    ServiceLevels(service_levels::ServiceLevels),
    /// Compare an ERP's stock with the ledger's, and say what explains each difference.
    Reconcile(reconcile::Reconcile),
    /// What partners refused for its content: list, look, mend, send again, drop.
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Where an order comes from: its records, what caused them, the batches that carried them.
    Trace(trace::Trace),
    /// What waits at a running server: reports before their order, records that sinks hold back.
    #[command(subcommand)]
    Parked(parked::Parked),
    /// Who may call, kept in the log: add a partner, replace its API key, revoke it.
    #[command(subcommand)]
    Partner(partner::Partner),
    /// The journal, the orders or the stock of a stopped server, for other programs.
    #[command(subcommand)]
    Export(export::Export),
    /// Whether a server serves requests; exit code 3 if not.
    Ready(ready::Ready),
    /// Make a consistent copy of the data: through the running server, which goes on, or of a stopped one.
    Backup(backup::Backup),
    /// Make a data directory of a backup, as a new incarnation, and look it through.
    Restore(restore::Restore),
    /// Look into the log of a stopped server; nothing is changed.
    #[command(subcommand)]
    Wal(wal::Wal),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
struct Source {
    /// The configuration, TOML; without it the defaults hold. HOLDFAST__SECTION__KEY in the
    /// environment overrides its keys.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    config: Option<PathBuf>,
}

impl Source {
    fn load(&self, overrides: &Overrides) -> Result<Config, Error> {
        Ok(Config::load(self.config.as_deref(), overrides)?)
    }
}

/// The data directory of commands that work without a server.
#[derive(Debug, Clone, Args)]
struct DataDir {
    #[command(flatten)]
    source: Source,
    /// The data directory; without it the configured one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl DataDir {
    fn load(&self) -> Result<Config, Error> {
        self.source.load(&Overrides { data: self.data.clone(), listen: None })
    }
}

/// How a command ended that could be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing is wrong.
    Good,
    /// It was carried out, and what it found is not good.
    Bad,
}

/// Parses the arguments, runs the command, tells the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format);
    match run(cli.command) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            // Whoever read the output has seen enough.
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("holdfast: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<Outcome, Error> {
    match command {
        Command::Serve(serve) => serve.run(),
        Command::Demo(demo) => demo.run(),
        Command::CheckConfig(check) => check.run(),
        Command::Config(config) => config.run(),
        Command::Connector(connector) => connector.run(),
        Command::Hook(hook) => hook.run(),
        Command::Books(books) => books.run(),
        Command::Stock(stock) => stock.run(),
        Command::Sinks(sinks) => sinks.run(),
        Command::Latency(latency) => latency.run(),
        Command::ServiceLevels(levels) => levels.run(),
        Command::Reconcile(reconcile) => reconcile.run(),
        Command::DeadLetters(letters) => letters.run(),
        Command::Trace(trace) => trace.run(),
        Command::Parked(parked) => parked.run(),
        Command::Partner(partner) => partner.run(),
        Command::Export(export) => export.run(),
        Command::Ready(ready) => ready.run(),
        Command::Backup(backup) => backup.run(),
        Command::Restore(restore) => restore.run(),
        Command::Wal(wal) => wal.run(),
    }
}

/// A runtime of `threads` workers; 0: one a core.
fn runtime(threads: u32) -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads as usize);
    }
    builder.enable_all().build().map_err(Error::Runtime)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
