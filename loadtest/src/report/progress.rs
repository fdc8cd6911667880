//! What is seen of a run while it lasts, on the standard error: a bar on a terminal, a line now and then
//! where there is none.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text;
use crate::recording::{Latest, Outcome, Recording};

/// How often a bar is drawn.
const DRAW_HZ: u8 = 5;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far one run is.
pub struct Display {
    name: String,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, next: Duration },
}

/// How far a run is.
pub struct Seen<'a> {
    /// How long ago it started.
    pub elapsed: Duration,
    /// Over what time it is planned.
    pub length: Duration,
    /// How many requests should have been sent by now.
    pub due: u64,
    /// How many have ended.
    pub ended: u64,
    /// What was recorded so far.
    pub recording: &'a Recording,
}

impl Display {
    /// Of a run of this name.
    pub fn start(name: &str) -> Self {
        let shown = match io::stderr().is_terminal() {
            true => Shown::Bar(bar()),
            false => Shown::Lines { out: Box::new(io::stderr()), next: LINE_EVERY },
        };
        Self { name: name.to_owned(), shown }
    }

    /// Shows how far it is. To be called a few times a second.
    pub fn tick(&mut self, seen: &Seen<'_>) {
        let Seen { elapsed, length, .. } = *seen;
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_length(millis(length));
                bar.set_position(millis(elapsed.min(length)));
                bar.set_prefix(format!("{}: {}", self.name, far(seen)));
                bar.set_message(well(seen));
            }
            Shown::Lines { out, next } if elapsed >= *next => {
                *next = elapsed + LINE_EVERY;
                let (at, of) = (elapsed.as_secs_f64(), length.as_secs_f64());
                // Progress that can't be shown is no reason to end a run.
                let _ = writeln!(out, "{at:.0} of {of:.0} s: {} | {}", far(seen), well(seen));
            }
            Shown::Lines { .. } => {}
        }
    }

    /// Takes the bar away; what was measured is told elsewhere.
    pub fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAW_HZ);
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template("[{bar:24}] {percent:>3} %  {prefix}\n{wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How many requests are due, and how many of them wait.
fn far(seen: &Seen<'_>) -> String {
    let waiting = seen.due.saturating_sub(seen.ended);
    format!("{} due, {} waiting", text::count(seen.due), text::count(waiting))
}

/// What the last interval was like, and how requests ended so far: recorders tell at an interval's end.
fn well(seen: &Seen<'_>) -> String {
    let Some(Latest { totals, length, .. }) = seen.recording.latest() else { return String::new() };
    let rate = text::short(totals.all() as f64 / length.as_secs_f64());
    let at = |quantile| text::duration(totals.response.value_at_quantile(quantile) as f64);
    let mut said = format!("{rate}/s, p50 {}, p99 {}, p99.9 {} |", at(0.5), at(0.99), at(0.999));
    let so_far = seen.recording.totals();
    for outcome in Outcome::ALL.into_iter().filter(|outcome| so_far.count(*outcome) > 0) {
        let count = text::short(so_far.count(outcome) as f64);
        said += &format!(" {} {count}", outcome.as_str().replace('_', " "));
    }
    said
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::SystemTime,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no one panics here").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn without_a_terminal_there_is_a_line_now_and_then() {
        let ms = Duration::from_millis;
        let mut recording = Recording::new(SystemTime::now(), ms(1_000));
        let mut recorder = recording.recorder();
        for number in 0..2_000 {
            recorder.record(ms(number), Outcome::Granted, ms(2), ms(2), ms(0));
        }
        recorder.record(ms(1_900), Outcome::Unsent, ms(500), ms(0), ms(500));
        recording.absorb(recorder);

        let written = Written::default();
        let shown = Shown::Lines { out: Box::new(written.clone()), next: LINE_EVERY };
        let mut display = Display { name: String::new(), shown };
        for at in 0..100 {
            let (elapsed, length) = (ms(at * 100), ms(60_000));
            display.tick(&Seen {
                elapsed,
                length,
                due: 4_000,
                ended: 2_001,
                recording: &recording,
            });
        }
        display.finish();
        let text = String::from_utf8(written.0.lock().expect("no one panics here").clone());
        assert_eq!(
            text.expect("text"),
            "5 of 60 s: 4,000 due, 1,999 waiting | 3/s, p50 2 ms, p99 500 ms, p99.9 500 ms | \
             granted 2 k unsent 1\n"
        );
    }

    #[test]
    fn a_bar_is_as_long_as_the_plan_and_goes_no_further() {
        let recording = &Recording::new(SystemTime::now(), Duration::from_secs(1));
        let bar = bar();
        let mut display = Display { name: "drop".to_owned(), shown: Shown::Bar(bar.clone()) };
        for (elapsed_s, position_ms) in [(0, 0), (30, 30_000), (75, 60_000)] {
            let (elapsed, length) = (Duration::from_secs(elapsed_s), Duration::from_secs(60));
            display.tick(&Seen { elapsed, length, due: 1_005, ended: 3, recording });
            assert_eq!((bar.length(), bar.position()), (Some(60_000), position_ms));
            assert_eq!(bar.prefix(), "drop: 1,005 due, 1,002 waiting");
            assert_eq!(bar.message(), "", "nothing was recorded yet");
        }
        display.finish();
        assert!(bar.is_finished());
    }
}
