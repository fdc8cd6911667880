//! Numbers and words as reports write them.

use std::fmt::Write;

/// A duration in nanoseconds, to three significant digits: `850 ns`, `12.3 µs`, `1.25 ms`, `2.5 s`.
pub fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        _ if ns < 999.5 => (ns, "ns"),
        _ if ns < 999_500.0 => (ns / 1e3, "µs"),
        _ if ns < 999_500_000.0 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// A number to three significant digits, without zeros that say nothing.
pub fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A ratio: as a number to three significant digits, a small one to two, so that it never reads as nothing.
pub fn ratio(ratio: f64) -> String {
    match ratio {
        _ if ratio >= 0.1 || ratio <= 0.0 => digits(ratio),
        _ if ratio < 1e-6 => "below 0.000001".to_owned(),
        _ => {
            let decimals = 1 + (-ratio.log10()).ceil() as usize;
            format!("{ratio:.decimals$}").trim_end_matches('0').to_owned()
        }
    }
}

/// A count, its thousands apart.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate or another large number, short: `950`, `12.5 k`, `3.2 M`.
pub fn short(value: f64) -> String {
    match value {
        _ if value < 999.5 => digits(value),
        _ if value < 999_500.0 => format!("{} k", digits(value / 1e3)),
        _ if value < 999_500_000.0 => format!("{} M", digits(value / 1e6)),
        _ => format!("{} G", digits(value / 1e9)),
    }
}

/// A share, in percent; what is not nothing never reads as nothing.
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent > 0.0 && percent < 0.001 => "below 0.001 %".to_owned(),
        _ if percent > 0.0 && percent < 0.1 => {
            format!("{} %", format!("{percent:.3}").trim_end_matches('0'))
        }
        _ if percent > 99.9 && percent < 100.0 => "above 99.9 %".to_owned(),
        _ => format!("{} %", digits(percent)),
    }
}

/// A quantile's name: `p50`, `p99.9`, and `max` for the last.
pub fn quantile(quantile: f64) -> String {
    if quantile >= 1.0 {
        return "max".to_owned();
    }
    let percent = format!("{:.6}", quantile * 100.0);
    format!("p{}", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// Bytes: `512 MiB`, `7.75 GiB`.
pub fn bytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1_024.0 {
        format!("{} MiB", digits(mib))
    } else {
        format!("{} GiB", digits(mib / 1_024.0))
    }
}

/// An offset from the start of a run, as an axis shows it: `45 s` in short runs, `1:30` in others, and
/// `1:01:30` from an hour on.
pub fn clock(seconds: f64, of_seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match of_seconds {
        _ if of_seconds < 180.0 => format!("{} s", digits(seconds)),
        _ if of_seconds < 3_600.0 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3_600, whole / 60 % 60, whole % 60),
    }
}

/// Text as it may stand in HTML, also in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => {
                // Visible rather than gone: a name with a control character in it is worth a look.
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// An argument as a shell would have to get it.
pub fn shell(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_the_unit_that_fits() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (850.0, "850 ns"),
            (999.6, "1 µs"),
            (12_340.0, "12.3 µs"),
            (1_250_000.0, "1.25 ms"),
            (999_700_000.0, "1 s"),
            (75e9, "75 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!([ratio(12.34), ratio(0.987), ratio(0.0)], ["12.3", "0.99", "0"]);
        assert_eq!([ratio(0.000_317), ratio(0.05), ratio(0.01)], ["0.00032", "0.05", "0.01"]);
        assert_eq!(short(12_500.0), "12.5 k");
        assert_eq!(short(999_700.0), "1 M");
        assert_eq!(bytes(8 << 30), "8 GiB");
        assert_eq!(
            [quantile(0.5), quantile(0.999), quantile(0.99999)],
            ["p50", "p99.9", "p99.999"]
        );
        assert_eq!(quantile(1.0), "max");
        assert_eq!([clock(45.0, 60.0), clock(90.0, 600.0)], ["45 s", "1:30"]);
        assert_eq!(clock(3_690.0, 7_200.0), "1:01:30");
    }

    #[test]
    fn a_share_that_is_not_nothing_does_not_read_as_nothing() {
        assert_eq!(share(0.0), "0 %");
        assert_eq!(share(0.000_000_1), "below 0.001 %");
        assert_eq!(share(0.000_25), "0.025 %");
        assert_eq!(share(0.5), "50 %");
        assert_eq!(share(0.999_99), "above 99.9 %");
        assert_eq!(share(1.0), "100 %");
    }

    #[test]
    fn text_can_neither_end_an_element_nor_an_attribute() {
        assert_eq!(escape("<a b=\"c\">&'\u{7}"), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;\\u{7}");
        assert_eq!(shell("--rate=5"), "--rate=5");
        assert_eq!(shell("it's"), r"'it'\''s'");
    }
}
