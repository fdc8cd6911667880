//! `loadtest compare`: Holdfast beside its peers, in one go.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, builder::PossibleValuesParser};
use serde_json::{Value, json};

use super::{Error, Outcome, text};
use crate::{
    compare::{
        Contender, Figures, Options, Ran, Ratio, SITUATIONS, Situation, Spread, Verdict, compare,
    },
    report::Machine,
};

/// What is told of a peer that is not run here.
const TIGERBEETLE: &str = "\
TigerBeetle  not measured here. Measured elsewhere, doing the same job: 290,000 to 400,000 holds a
             second in batches of 8,189 (p50 13 to 20 ms, p99 45 to 76 ms); 45,000 to 63,000 for 256
             callers through one client (p99 33 ms); 3,000 one by one; 636,000 to 826,000 sold out";

/// Compare Holdfast with Redis and PostgreSQL, which are started for it from Debian's packages: in turns,
/// each run a closed loop of its own, audited.
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Rounds; in each, every target has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each run is measured, in seconds, after a second of warm-up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// One round of a third of a second: whether it works, and no figure. Goals are not judged.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Only these situations, with commas between.
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(SITUATIONS.each_ref().map(|s| s.name)))]
    situations: Vec<String>,
    /// Only these targets, with commas between.
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(Contender::ALL.map(Contender::as_str)))]
    targets: Vec<String>,
    /// Holdfast's binary; without it `holdfast` beside this program.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// The folder that the data of all servers goes into; without it the system's for what is temporary,
    /// which may be no disk.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A folder that the figures are written to, as `compare.json`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Compare {
    pub fn run(self) -> Result<Outcome, Error> {
        let options = self.options()?;
        let machine = Machine::read(&self.data.clone().unwrap_or_else(std::env::temp_dir));
        let mut out = io::stdout().lock();
        tell_machine(&mut out, &machine).map_err(Error::Print)?;
        let there = self.there(&mut out)?;
        let (mut outcome, mut told) = (Outcome::Good, Vec::new());
        for situation in &SITUATIONS {
            let wanted = |name: &str, of: &[String]| of.is_empty() || of.iter().any(|n| n == name);
            let contenders = situation.contenders.iter().copied();
            let contenders: Vec<Contender> = contenders.filter(|c| there.contains(c)).collect();
            if !wanted(situation.name, &self.situations) || contenders.is_empty() {
                continue;
            }
            writeln!(out, "\n{}: {}", situation.name, situation.about).map_err(Error::Print)?;
            let runs = compare(situation, &contenders, &options, |ran| glance(situation, ran))?;
            let verdicts = if self.quick { Vec::new() } else { judge(situation, &runs) };
            tell(&mut out, &contenders, &runs, &verdicts).map_err(Error::Print)?;
            outcome = worse(outcome, of(&runs, &verdicts));
            told.push(figures(situation, &runs, &verdicts));
        }
        if told.is_empty() {
            let said = "no situation has any of these targets: see --situations and --targets";
            return Err(Error::Usage(said.to_owned()));
        }
        writeln!(out, "\n{TIGERBEETLE}").and_then(|()| out.flush()).map_err(Error::Print)?;
        if let Some(folder) = self.out {
            let all = json!({
                "machine": machine,
                "quick": self.quick,
                "debug_build": cfg!(debug_assertions),
                "situations": told,
            });
            text::write(&folder, "compare.json", &all)?;
        }
        Ok(outcome)
    }

    fn options(&self) -> Result<Options, Error> {
        let Self { rounds, seconds, .. } = *self;
        if !(1..=1_000).contains(&rounds) {
            return Err(Error::Usage("--rounds must be 1 to 1,000".to_owned()));
        }
        // A plan holds every visit that there may be.
        if !(seconds > 0.0 && seconds <= 60.0) {
            return Err(Error::Usage("--seconds must be above 0 and at most 60".to_owned()));
        }
        let (rounds, seconds, warm_up_s) =
            if self.quick { (1, 0.3, 0.1) } else { (rounds, seconds, 1.0) };
        let (binary, data) = (self.server.clone(), self.data.clone());
        Ok(Options { rounds, seconds, warm_up_s, binary, data })
    }

    /// The targets that are wanted and can be had; the others are told.
    fn there(&self, out: &mut impl Write) -> Result<Vec<Contender>, Error> {
        let named = |c: &Contender| self.targets.iter().any(|name| name == c.as_str());
        let mut there = Vec::new();
        for contender in Contender::ALL {
            if !self.targets.is_empty() && !named(&contender) {
                continue;
            }
            match contender.peer().map(|kind| kind.find()) {
                None | Some(Ok(_)) => there.push(contender),
                Some(Err(error)) => {
                    writeln!(out, "LEFT OUT     {}: {error}", contender.as_str())
                        .map_err(Error::Print)?;
                }
            }
        }
        Ok(there)
    }
}

fn worse(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (Outcome::Unbalanced, _) | (_, Outcome::Unbalanced) => Outcome::Unbalanced,
        _ => one.max(other),
    }
}

fn of(runs: &[Ran], verdicts: &[Verdict]) -> Outcome {
    if runs.iter().any(|ran| !ran.figures.is_sound()) {
        Outcome::Unbalanced
    } else if verdicts.iter().any(|verdict| !verdict.met) {
        Outcome::Missed
    } else {
        Outcome::Good
    }
}

fn judge(situation: &Situation, runs: &[Ran]) -> Vec<Verdict> {
    situation.goals.iter().filter_map(|goal| goal.judge(runs)).collect()
}

/// Tells a run as soon as it has ended, to whoever waits.
fn glance(situation: &Situation, ran: &Ran) {
    let Ran { contender, round, figures, .. } = ran;
    let (name, who) = (situation.name, contender.as_str());
    eprintln!("{name}, round {}: {who} {:.0}/s", round + 1, figures.per_s);
}

fn tell_machine(out: &mut impl Write, machine: &Machine) -> io::Result<()> {
    let unknown = || "unknown".to_owned();
    let cpu = machine.cpu.clone().unwrap_or_else(unknown);
    let cores = machine.cores.unwrap_or_default();
    let memory = machine.memory_bytes.unwrap_or_default() as f64 / f64::from(1 << 30);
    let kernel = machine.kernel.clone().unwrap_or_else(unknown);
    writeln!(out, "machine      {cpu}, {cores} cores, {memory:.1} GiB; {kernel}")?;
    let filesystem = machine.filesystem.clone().unwrap_or_else(unknown);
    writeln!(out, "data on      {filesystem}")?;
    writeln!(out, "load         {:.2} before it began", machine.load.unwrap_or_default())?;
    writeln!(out, "version      {}", env!("CARGO_PKG_VERSION"))?;
    if cfg!(debug_assertions) {
        writeln!(out, "DEBUG BUILD  it shows that all works; its figures stand for nothing")?;
    }
    Ok(())
}

fn tell(
    out: &mut impl Write,
    contenders: &[Contender],
    runs: &[Ran],
    verdicts: &[Verdict],
) -> io::Result<()> {
    writeln!(
        out,
        "  {:<11} {:>10} {:>21} {:>9} {:>9} {:>9} {:>8}  audit",
        "target", "per s", "over rounds", "p50 us", "p99 us", "p99.9 us", "tester"
    )?;
    for contender in contenders {
        tell_one(out, *contender, runs)?;
    }
    for (of, peer) in pairs(contenders) {
        if let Some(Ratio { times, .. }) = Ratio::of(runs, of, peer) {
            let Spread { min, median, max } = times;
            let (of, peer) = (of.as_str(), peer.as_str());
            writeln!(out, "  {of} / {peer}: {median:.2} ({min:.2} to {max:.2})")?;
        }
    }
    for Verdict { what, met } in verdicts {
        writeln!(out, "  {} {what}", if *met { "met   " } else { "MISSED" })?;
    }
    Ok(())
}

/// Holdfast's ways, each with each peer.
fn pairs(contenders: &[Contender]) -> Vec<(Contender, Contender)> {
    let (peers, ours): (Vec<_>, Vec<_>) = contenders.iter().partition(|c| c.peer().is_some());
    ours.iter().flat_map(|of| peers.iter().map(|peer| (*of, *peer))).collect()
}

fn tell_one(out: &mut impl Write, contender: Contender, runs: &[Ran]) -> io::Result<()> {
    let spread = |figure: fn(&Figures) -> f64| Spread::over(runs, contender, figure);
    let Some(per_s) = spread(|f| f.per_s) else { return Ok(()) };
    let middle = |figure| spread(figure).map_or(0.0, |spread| spread.median);
    let sound = runs.iter().filter(|ran| ran.contender == contender);
    let unsound: Vec<&Figures> =
        sound.map(|ran| &ran.figures).filter(|figures| !figures.is_sound()).collect();
    writeln!(
        out,
        "  {:<11} {:>10.0} {:>21} {:>9.1} {:>9.1} {:>9.1} {:>8.2}  {}",
        contender.as_str(),
        per_s.median,
        format!("{:.0} to {:.0}", per_s.min, per_s.max),
        middle(|f| f.service_us[0]),
        middle(|f| f.service_us[1]),
        middle(|f| f.service_us[2]),
        middle(|f| f.tester_us),
        if unsound.is_empty() { "ok" } else { "FAIL" },
    )?;
    for figures in unsound {
        writeln!(out, "    FAIL {} errors; {}", figures.errors, figures.differences.join("; "))?;
    }
    Ok(())
}

fn figures(situation: &Situation, runs: &[Ran], verdicts: &[Verdict]) -> Value {
    let ran = |ran: &Ran| {
        json!({
            "target": ran.contender.as_str(),
            "round": ran.round,
            "name": ran.target,
            "figures": ran.figures,
        })
    };
    json!({
        "name": situation.name,
        "about": situation.about,
        "callers": situation.callers,
        "connections": situation.connections,
        "runs": runs.iter().map(ran).collect::<Vec<_>>(),
        "goals": verdicts,
    })
}
