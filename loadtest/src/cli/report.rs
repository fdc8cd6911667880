//! `loadtest report RUN.hlog` and `loadtest hgrm RUN.hlog`: looking at a run again, from its interval log.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Error, Outcome};
use crate::report::{self, hgrm, hlog, html};

/// Makes the page of a run from its interval log.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The interval log of the run.
    #[arg(value_name = "RUN.hlog")]
    run: PathBuf,
    /// Another run's, to compare with.
    #[arg(long, value_name = "OLD.hlog")]
    against: Option<PathBuf>,
    /// Where the page goes; without it, beside the log, with the ending `.html`.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

impl Report {
    pub fn run(self) -> Result<Outcome, Error> {
        let page = self.write()?;
        writeln!(io::stdout(), "{}", page.display()).map_err(Error::Print)?;
        Ok(Outcome::Good)
    }

    /// Writes the page, and tells where it is.
    fn write(self) -> Result<PathBuf, report::Error> {
        let summary = hlog::read(&self.run)?;
        let old = self.against.as_deref().map(hlog::read).transpose()?;
        let name = self.against.as_deref().map(name).unwrap_or_default();
        let against = old.as_ref().map(|summary| html::Against { name: &name, summary });
        let out = self.out.unwrap_or_else(|| self.run.with_extension("html"));
        match fs::write(&out, html::page(&summary, against)) {
            Ok(()) => Ok(out),
            Err(source) => Err(report::Error::File { path: out, source }),
        }
    }
}

/// What a log is called in a comparison: as it was asked for, since many have the same name in folders of
/// their own.
fn name(path: &Path) -> String {
    path.with_extension("").display().to_string()
}

/// Prints a percentile table of a run, for HdrHistogram's tools.
#[derive(Debug, Args)]
pub(super) struct Hgrm {
    /// The interval log of the run.
    #[arg(value_name = "RUN.hlog")]
    run: PathBuf,
    /// What of it: `response` or `service` over all outcomes, or a tag of the log (`granted`,
    /// `service_granted`, `lag`, …).
    #[arg(long, default_value = "response")]
    tag: String,
}

impl Hgrm {
    pub fn run(self) -> Result<Outcome, Error> {
        let histogram = hgrm::pick(&hlog::read(&self.run)?, &self.tag)?;
        let mut out = io::stdout().lock();
        hgrm::write(&mut out, &histogram).and_then(|()| out.flush()).map_err(Error::Print)?;
        Ok(Outcome::Good)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use clap::Parser;

    use super::*;
    use crate::{
        recording::{Outcome as Ended, Recording},
        report::Run,
    };

    /// A command line that has nothing but these.
    #[derive(Debug, Parser)]
    enum Line {
        Report(Report),
        Hgrm(Hgrm),
    }

    fn page(arguments: &[&str]) -> Result<PathBuf, report::Error> {
        let line = [&["loadtest", "report"], arguments].concat();
        match Line::try_parse_from(line).expect("arguments that are understood") {
            Line::Report(report) => report.write(),
            Line::Hgrm(_) => unreachable!("`report` was asked for"),
        }
    }

    /// The interval log of a run of one request.
    fn log(folder: &Path, stem: &str, ms: u64) -> String {
        let mut recording = Recording::new(SystemTime::now(), Duration::from_secs(1));
        let mut recorder = recording.recorder();
        let took = Duration::from_millis(ms);
        recorder.record(Duration::ZERO, Ended::Granted, took, took, Duration::ZERO);
        recording.absorb(recorder);
        let run = Run { scenario: stem.to_owned(), ..Run::default() };
        let files = report::write_all(folder, stem, &recording, run).expect("files");
        files.hlog.to_str().expect("a name in UTF-8").to_owned()
    }

    #[test]
    fn a_page_goes_beside_its_log_or_where_it_is_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (new, old) = (log(folder.path(), "new", 2), log(folder.path(), "old", 8));
        let beside = page(&[&new]).expect("a page");
        assert_eq!(beside, folder.path().join("new.html"));
        assert!(!fs::read_to_string(&beside).expect("a page").contains("Comparison"));

        let elsewhere = folder.path().join("elsewhere.html");
        let out = elsewhere.to_str().expect("a name in UTF-8");
        assert_eq!(page(&[&new, "--against", &old, "--out", out]).expect("a page"), elsewhere);
        let text = fs::read_to_string(&elsewhere).expect("a page");
        assert!(
            text.contains(&format!("compared with {}", old.trim_end_matches(".hlog")))
                && text.contains("× 0.25")
        );
    }

    #[test]
    fn what_can_not_be_read_or_written_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let new = log(folder.path(), "new", 2);
        let missing = folder.path().join("missing.hlog");
        let missing = missing.to_str().expect("a name in UTF-8");
        for arguments in [&[missing][..], &[&new, "--against", missing]] {
            let said = page(arguments).expect_err("there is no such file").to_string();
            assert!(said.contains("missing.hlog"), "{said}");
        }
        let nowhere = folder.path().join("no/such.html");
        let out = nowhere.to_str().expect("a name in UTF-8");
        let said = page(&[&new, "--out", out]).expect_err("there is no such folder").to_string();
        assert!(said.contains("no/such.html"), "{said}");
        let hgrm = Hgrm { run: new.into(), tag: "none".to_owned() };
        let said = hgrm.run().expect_err("there is no such tag").to_string();
        assert!(said.contains("`none`"), "{said}");
    }
}
