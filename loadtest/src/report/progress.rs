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
pub struct Display(Shown);

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
    /// What was recorded so far.
    pub recording: &'a Recording,
}

impl Display {
    /// Of a run of this name.
    pub fn start(name: &str) -> Self {
        Self(match io::stderr().is_terminal() {
            true => Shown::Bar(bar(name)),
            false => Shown::Lines { out: Box::new(io::stderr()), next: LINE_EVERY },
        })
    }

    /// Shows how far it is. To be called a few times a second.
    pub fn tick(&mut self, seen: &Seen<'_>) {
        let Seen { elapsed, length, .. } = *seen;
        match &mut self.0 {
            Shown::Bar(bar) => {
                bar.set_length(millis(length));
                bar.set_position(millis(elapsed.min(length)));
                bar.set_message(said(seen));
            }
            Shown::Lines { out, next } if elapsed >= *next => {
                *next = elapsed + LINE_EVERY;
                let (at, of) = (elapsed.as_secs_f64(), length.as_secs_f64());
                // Progress that can't be shown is no reason to end a run.
                let _ = writeln!(out, "{at:.0} of {of:.0} s: {}", said(seen));
            }
            Shown::Lines { .. } => {}
        }
    }

    /// Takes the bar away; what was measured is told elsewhere.
    pub fn finish(self) {
        if let Shown::Bar(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAW_HZ);
    let bar = ProgressBar::with_draw_target(None, target);
    let style =
        ProgressStyle::with_template("{prefix} [{bar:32}] {percent:>3} %  {elapsed}\n{wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(name.to_owned());
    bar
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How many of the requests that are due have ended, how, and what the last interval was like.
fn said(seen: &Seen<'_>) -> String {
    let totals = seen.recording.totals();
    let mut text = format!("{} due, {} ended", text::count(seen.due), text::count(totals.all()));
    for outcome in Outcome::ALL {
        let count = totals.count(outcome);
        if count > 0 {
            text +=
                &format!(", {} {}", text::short(count as f64), outcome.as_str().replace('_', " "));
        }
    }
    if let Some(Latest { totals, length, .. }) = seen.recording.latest() {
        let rate = totals.all() as f64 / length.as_secs_f64();
        let at = |quantile| text::duration(totals.response.value_at_quantile(quantile) as f64);
        text += &format!(" | {}/s", text::short(rate));
        text += &format!(", p50 {}, p99 {}, p99.9 {}", at(0.5), at(0.99), at(0.999));
    }
    text
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
        let mut display = Display(shown);
        for at in 0..100 {
            let (elapsed, length) = (ms(at * 100), ms(60_000));
            display.tick(&Seen { elapsed, length, due: 4_000, recording: &recording });
        }
        display.finish();
        let text = String::from_utf8(written.0.lock().expect("no one panics here").clone());
        assert_eq!(
            text.expect("text"),
            "5 of 60 s: 4,000 due, 2,001 ended, 2 k granted, 1 unsent | 3/s, p50 2 ms, p99 500 ms, p99.9 500 ms\n"
        );
    }

    #[test]
    fn before_anything_ended_what_is_due_is_told() {
        let recording = &Recording::new(SystemTime::now(), Duration::from_secs(1));
        let (elapsed, length) = (Duration::ZERO, Duration::from_secs(1));
        assert_eq!(said(&Seen { elapsed, length, due: 1_500, recording }), "1,500 due, 0 ended");
    }

    #[test]
    fn a_bar_is_as_long_as_the_plan_and_goes_no_further() {
        let recording = &Recording::new(SystemTime::now(), Duration::from_secs(1));
        let bar = bar("flash-drop");
        let mut display = Display(Shown::Bar(bar.clone()));
        for (elapsed_s, position_ms) in [(0, 0), (30, 30_000), (75, 60_000)] {
            let elapsed = Duration::from_secs(elapsed_s);
            display.tick(&Seen { elapsed, length: Duration::from_secs(60), due: 5, recording });
            assert_eq!((bar.length(), bar.position()), (Some(60_000), position_ms));
            assert_eq!(bar.message(), "5 due, 0 ended");
        }
        display.finish();
        assert!(bar.is_finished());
    }
}
