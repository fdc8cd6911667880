//! What is seen of a run while it lasts, on the standard error: a bar on a terminal, a line now and then
//! where there is none.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text;
use crate::recording::{Latest, Outcome, Recording, Totals};

/// How often a bar is drawn.
const DRAW_HZ: u8 = 5;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one run.
pub struct Progress {
    planned: u64,
    length: Duration,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, next: Duration },
}

impl Progress {
    /// Of a run of so many requests, planned over this time.
    pub fn start(name: &str, planned: u64, length: Duration) -> Self {
        let shown = if io::stderr().is_terminal() {
            Shown::Bar(bar(name, length))
        } else {
            Shown::Lines { out: Box::new(io::stderr()), next: LINE_EVERY }
        };
        Self { planned, length, shown }
    }

    /// Shows how far it is, so long after its start. To be called a few times a second.
    pub fn tick(&mut self, elapsed: Duration, recording: &Recording) {
        if let Shown::Lines { next, .. } = &self.shown
            && elapsed < *next
        {
            return;
        }
        let text = said(self.planned, &recording.totals(), recording.latest().as_ref());
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(millis(elapsed.min(self.length)));
                bar.set_message(text);
            }
            Shown::Lines { out, next } => {
                *next = elapsed + LINE_EVERY;
                let (at, of) = (elapsed.as_secs_f64(), self.length.as_secs_f64());
                // Progress that can't be shown is no reason to end a run.
                let _ = writeln!(out, "{at:.0} of {of:.0} s: {text}");
            }
        }
    }

    /// Takes the bar away; what was measured is told elsewhere.
    pub fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, length: Duration) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAW_HZ);
    let bar = ProgressBar::with_draw_target(Some(millis(length)), target);
    let style =
        ProgressStyle::with_template("{prefix} [{bar:32}] {percent:>3} %  {elapsed}\n{wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(name.to_owned());
    bar
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How far it is: how many of the planned requests have ended, and what the last interval was like.
fn said(planned: u64, totals: &Totals, latest: Option<&Latest>) -> String {
    let mut text = format!("{} of {} ended", text::count(totals.all()), text::count(planned));
    for outcome in Outcome::ALL {
        let count = totals.count(outcome);
        if count > 0 {
            text +=
                &format!(", {} {}", text::short(count as f64), outcome.as_str().replace('_', " "));
        }
    }
    if let Some(Latest { totals, length, .. }) = latest {
        let rate = totals.all() as f64 / length.as_secs_f64();
        let at = |quantile| text::duration(totals.response.value_at_quantile(quantile) as f64);
        text += &format!(" | {} a second", text::short(rate));
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
        let mut progress = Progress { planned: 4_000, length: ms(60_000), shown };
        for at in 0..100 {
            progress.tick(ms(at * 100), &recording);
        }
        progress.finish();
        let text = String::from_utf8(written.0.lock().expect("no one panics here").clone());
        assert_eq!(
            text.expect("text"),
            "5 of 60 s: 2,001 of 4,000 ended, 2 k granted, 1 unsent | 3 a second, p50 2 ms, p99 500 ms, p99.9 500 ms\n"
        );
    }

    #[test]
    fn before_anything_ended_the_plan_is_told() {
        let recording = Recording::new(SystemTime::now(), Duration::from_secs(1));
        assert_eq!(said(1_500, &recording.totals(), None), "0 of 1,500 ended");
    }

    #[test]
    fn the_template_of_the_bar_is_one() {
        let bar = bar("flash-drop", Duration::from_secs(60));
        bar.set_position(30_000);
        assert_eq!((bar.length(), bar.position()), (Some(60_000), 30_000));
    }
}
