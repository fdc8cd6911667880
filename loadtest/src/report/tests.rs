//! Tests of the files of a run. With `HOLDFAST_LOADTEST_KEEP` set to a folder they leave theirs there, to be
//! looked at.

use std::{convert::Infallible, fs, path::PathBuf, time::Duration};

use base64::Engine;
use hdrhistogram::{
    Histogram,
    serialization::{Serializer, V2DeflateSerializer, V2Serializer},
};

use super::*;
use crate::recording::{Kind, Outcome, Series, histogram};

/// Where files go: a folder that is deleted after the test, or one that is kept.
struct Folder {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    fn new() -> Self {
        if let Some(path) = std::env::var_os("HOLDFAST_LOADTEST_KEEP") {
            return Self { path: path.into(), _temporary: None };
        }
        let folder = tempfile::tempdir().expect("a folder");
        Self { path: folder.path().to_owned(), _temporary: Some(folder) }
    }
}

/// The interval log of a recording, in memory.
fn log(recording: &Recording, run: &Run) -> Vec<u8> {
    let mut bytes = Vec::new();
    hlog::write_to(&mut bytes, recording, run, Path::new("test.hlog")).expect("a log");
    bytes
}

fn read(bytes: &[u8]) -> Result<Summary, Error> {
    hlog::read_from(bytes, Path::new("test.hlog"))
}

/// Why it can't be read.
fn refused(bytes: &[u8]) -> String {
    read(bytes).expect_err("this is no interval log").to_string()
}

#[test]
fn a_log_says_everything_that_was_recorded() {
    let recording = synthetic::recording(1, 12, 300, 3_500);
    let mut run = synthetic::run();
    run.take_from(&recording);
    let summary = read(&log(&recording, &run)).expect("a log");

    assert_eq!(summary.run, run);
    assert_eq!(summary.started, Duration::from_secs(synthetic::STARTED_S));
    let totals = recording.totals();
    for outcome in Outcome::ALL {
        assert_eq!(summary.outcome(outcome), Some(totals.count(outcome)), "{outcome:?}");
    }
    assert!(totals.count(Outcome::TimedOut) > 0 && totals.count(Outcome::Unsent) > 0);
    let errors = [Outcome::Error, Outcome::TimedOut, Outcome::Unsent].map(|o| totals.count(o));
    assert_eq!(summary.count(Kind::Error), errors.iter().sum::<u64>());
    for (read, recorded) in [
        (summary.response(), &totals.response),
        (summary.service(), &totals.service),
        (summary.lag(), &totals.lag),
    ] {
        assert_eq!(&read, recorded);
    }

    let mut points = summary.points.iter();
    let visited = recording.each(|sample| {
        let Series::Response(kind) = sample.series else { return Ok::<(), Infallible>(()) };
        let second = sample.begin.as_secs() as usize;
        assert_eq!(summary.points[second].counts[kind as usize], sample.histogram.len());
        Ok(())
    });
    let Ok(()) = visited;
    assert!(points.all(|point| point.length_s == 1.0));
    let planned: Vec<u64> = summary.points.iter().map(|point| point.planned).collect();
    let all = recording.planned();
    assert_eq!(planned[..all.len()], all[..]);
    assert_eq!(all, [300, 300, 300, 300, 900, 900, 900, 900, 300, 300, 300, 300]);
}

#[test]
fn a_log_is_text_as_other_tools_read_it() {
    let recording = synthetic::recording(1, 3, 50, 0);
    let text = String::from_utf8(log(&recording, &synthetic::run())).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "#[Histogram log format version 1.3]");
    assert!(lines.contains(&"#[StartTime: 1790000000.000 (seconds since epoch)]"));
    assert!(lines.contains(&"#[BaseTime: 1790000000.000 (seconds since epoch)]"));
    let intervals: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with('#')).collect();
    assert!(intervals[0].starts_with("Tag=granted,0.000,1.000,"), "{}", intervals[0]);
    assert!(intervals.iter().all(|line| line.contains(",HISTFAAA")));
    assert!(intervals.iter().any(|line| line.starts_with("Tag=lag,2.000,1.000,")));
    assert!(intervals.iter().any(|line| line.starts_with("Tag=service_granted,1.000,1.000,")));
}

#[test]
fn a_second_in_which_nothing_ended_is_there_all_the_same() {
    let recording = synthetic::recording(1, 10, 100, 2_500);
    let mut run = synthetic::run();
    run.take_from(&recording);
    let summary = read(&log(&recording, &run)).expect("a log");
    let silent = summary.points.iter().filter(|point| point.response.is_none());
    let silent: Vec<f64> = silent.map(|point| point.begin_s).collect();
    assert_eq!(silent, [5.0, 6.0], "the target stalls from 5 s to 7.5 s");
}

/// A log of one line: this histogram, serialised so, under this head.
fn line(head: &str, serialised: &[u8]) -> Vec<u8> {
    let base64 = base64::engine::general_purpose::STANDARD.encode(serialised);
    format!("{head}{base64}\n").into_bytes()
}

fn of(values: &[u64]) -> Histogram<u64> {
    let mut made = histogram();
    values.iter().for_each(|value| made.record(*value).expect("it grows"));
    made
}

fn plain(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("bytes");
    bytes
}

fn deflated(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("bytes");
    bytes
}

#[test]
fn logs_of_other_tools_are_read() {
    let histogram = of(&[1_000, 2_000]);
    // Untagged, not deflated, absolute instants without a base, a legend, another tool's tag.
    let mut bytes = b"#[StartTime: 1500000000.000 (seconds since epoch), some day]\n\
        \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
        .to_vec();
    bytes.extend(line("1500000002.500,1.000,0.002,", &plain(&histogram)));
    bytes.extend(line("Tag=gc,1500000002.500,1.000,0.002,", &deflated(&histogram)));
    bytes.extend(line("Tag=shed,1500000003.500,1.000,0.002,", &deflated(&histogram)));
    let summary = read(&bytes).expect("a log");
    assert_eq!((summary.count(Kind::Granted), summary.count(Kind::Shed)), (2, 2));
    assert_eq!(summary.unknown_tags, ["gc"]);
    let begins: Vec<f64> = summary.points.iter().map(|point| point.begin_s).collect();
    assert_eq!(begins, [2.5, 3.5]);
    assert_eq!(summary.run, Run::default());
    // Instants relative to a start, without a base.
    let mut bytes = b"#[StartTime: 1500000000.000 (seconds since epoch)]\n".to_vec();
    bytes.extend(line("7.250,1.000,0.002,", &deflated(&histogram)));
    assert_eq!(read(&bytes).expect("a log").points[0].begin_s, 7.25);
}

#[test]
fn what_is_no_interval_log_is_refused_by_its_line() {
    let good = line("0.000,1.000,0.002,", &deflated(&of(&[5])));
    assert_eq!(read(&good).expect("a log").all(), 1);
    let good = || good.clone();

    assert!(refused(b"").contains("no interval"));
    assert!(refused(b"#[Run: {}]\n").contains("no interval"));
    let mut torn = [good(), good()].concat();
    torn.truncate(torn.len() - 9);
    assert!(refused(&torn).starts_with("test.hlog:2: "), "{}", refused(&torn));
    let wrong = [&good()[..], b"0.000,1.000,0.002,###\n"].concat();
    assert!(refused(&wrong).starts_with("test.hlog:2: the histogram is not base64"));
    let back = [line("5.000,1.000,0.002,", &deflated(&of(&[5]))), good()].concat();
    // The first instant is the start of a log that names none: five seconds before it is no instant.
    assert_eq!(read(&back).expect("a log").points.len(), 1);
    let start = b"#[BaseTime: 1500000000.000 (seconds since epoch)]\n#\n".to_vec();
    let start = [start, line("1.000,1.000,0.002,", &deflated(&of(&[5]))), back].concat();
    assert!(
        refused(&start).starts_with("test.hlog:5: the interval at 0 s comes after the one at 4 s")
    );
    let run = [&b"#\n#[Run: {\"seed\": true}]\n"[..], &good()].concat();
    assert!(
        refused(&run).starts_with("test.hlog:2: what is known of the run: "),
        "{}",
        refused(&run)
    );
    let run = [&b"#[Run: {\"seed\": 7}\n"[..], &good()].concat();
    assert!(refused(&run).starts_with("test.hlog:1: what is known of the run was cut off"));
}

/// The plain form of a histogram with other bytes at this place.
fn tampered(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = plain(&of(&[1, 1_000, 5_000_000]));
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn a_histogram_is_not_believed_before_it_was_checked() {
    let head = "0.000,1.000,0.002,";
    for (serialised, reason) in [
        (tampered(0, &[9; 4]), "cookie"),
        (tampered(4, &u32::MAX.to_be_bytes()), "cut off"),
        (tampered(24, &u64::MAX.to_be_bytes()), "bounds"),
        (tampered(16, &(i64::MAX as u64).to_be_bytes()), "bounds"),
        (tampered(16, &0_u64.to_be_bytes()), "can't be read"),
        (tampered(12, &9_u32.to_be_bytes()), "can't be read"),
        (vec![0; 3], "cut off"),
        // A run of zeros of length 2^63: the smallest number there is.
        (tampered(40, &[0xff; 9]), "longer than any"),
        (0x1c84_9314_u32.to_be_bytes().to_vec(), "unpacked"),
        // What would unpack to a gigabyte.
        (bomb(), "larger than any"),
    ] {
        let said = refused(&line(head, &serialised));
        assert!(said.contains(reason) && said.starts_with("test.hlog:1: "), "{said}, not {reason}");
    }
    let mut many = histogram();
    many.record_n(5, 1 << 41).expect("it grows");
    assert!(refused(&line(head, &plain(&many))).contains("beyond all bounds"));
}

fn bomb() -> Vec<u8> {
    use std::io::Write;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..32).for_each(|_| packed.write_all(&zeros).expect("memory"));
    let packed = packed.finish().expect("memory");
    let length = (packed.len() as u32).to_be_bytes();
    [&0x1c84_9314_u32.to_be_bytes()[..], &length, &packed].concat()
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let recording = synthetic::recording(3, 3, 50, 500);
    let log = log(&recording, &synthetic::run());
    let mut dice = 88_172_645_463_325_252_u64;
    let mut throw = |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice % below as u64) as usize
    };
    let mut refused = 0;
    for _ in 0..400 {
        let mut bytes = log.clone();
        for _ in 0..=throw(4) {
            let at = throw(bytes.len());
            match throw(3) {
                0 => bytes[at] = throw(256) as u8,
                1 => drop(bytes.drain(at..(at + throw(40)).min(bytes.len()))),
                _ => bytes.truncate(at.max(1)),
            }
        }
        match read(&bytes) {
            Ok(summary) => drop(html::page(&summary, None)),
            Err(_) => refused += 1,
        }
    }
    assert!((50..400).contains(&refused), "{refused} were refused");
}

#[test]
fn a_percentile_table_is_as_hdrhistogram_prints_it() {
    let histogram = of(&[1, 2, 3, 4, 5, 6, 7].map(|ms| ms * 1_000_000));
    let mut table = Vec::new();
    hgrm::write(&mut table, &histogram).expect("memory");
    let table = String::from_utf8(table).expect("text");
    let expected = "       Value     Percentile TotalCount 1/(1-Percentile)

    1.000447 0.000000000000          1           1.00
    1.000447 0.100000000000          1           1.11
    2.000895 0.200000000000          2           1.25
    3.000319 0.300000000000          3           1.43
    3.000319 0.400000000000          3           1.67
    4.001791 0.500000000000          4           2.00
    4.001791 0.550000000000          4           2.22
    5.001215 0.600000000000          5           2.50
    5.001215 0.650000000000          5           2.86
    5.001215 0.700000000000          5           3.33
    6.000639 0.750000000000          6           4.00
    6.000639 0.775000000000          6           4.44
    6.000639 0.800000000000          6           5.00
    6.000639 0.825000000000          6           5.71
    6.000639 0.850000000000          6           6.67
    7.000063 0.875000000000          7           8.00
    7.000063 1.000000000000          7
#[Mean    =     3.999488, StdDeviation   =     1.999269]
#[Max     =     7.000063, Total count    =            7]
#[Buckets =           15, SubBuckets     =         2048]
";
    assert_eq!(table, expected, "{table}");
}

#[test]
fn a_table_is_picked_by_tag() {
    let recording = synthetic::recording(1, 4, 100, 200);
    let summary = read(&log(&recording, &synthetic::run())).expect("a log");
    let count = |tag| hgrm::pick(&summary, tag).map(|histogram| histogram.len());
    let all = recording.totals().all();
    assert_eq!(count("response").ok(), Some(all));
    assert_eq!(count("lag").ok(), Some(all));
    assert_eq!(count("granted").ok(), Some(recording.totals().count(Outcome::Granted)));
    assert!(count("granted").ok() < Some(all));
    let said = count("granted,").expect_err("there is no such tag").to_string();
    assert!(said.contains("`granted,`") && said.contains("service_sold_out"), "{said}");
}

/// Whether every element that is opened is closed, in order.
fn is_balanced(html: &str) -> Result<(), String> {
    let mut open = Vec::new();
    for (at, _) in html.match_indices('<') {
        let rest = &html[at + 1..];
        let end = rest.find('>').ok_or("an element without an end")?;
        let (tag, closing) = (&rest[..end], rest.starts_with('/'));
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.ends_with('/') || ["!doctype", "meta"].contains(&name) {
            continue;
        }
        match closing {
            false => open.push(name),
            true if open.pop() == Some(name) => {}
            true => return Err(format!("</{name}> closes nothing")),
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("{open:?} are not closed")) }
}

#[test]
fn the_files_of_a_run_are_written_and_its_page_stands_alone() {
    let folder = Folder::new();
    let recording = synthetic::recording(1, 60, 400, 1_800);
    let files = write_all(&folder.path, "now", &recording, synthetic::run()).expect("files");
    let page = fs::read_to_string(&files.html).expect("a page");
    assert_eq!(is_balanced(&page), Ok(()));
    for outside in ["http:", "https:", "<script", "<link", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("that many want &lt;at once&gt; &amp; now"));
    assert!(page.contains("✗ objectives missed") && page.contains("✓ audit: the books agree"));
    assert!(page.contains("NaN") == page.contains("inf ") && !page.contains("NaN"));
    assert_eq!(page.matches("<figure>").count(), 4);
    assert_eq!(page.matches("<svg class=\"wide\"").count(), 4);
    assert_eq!(page.matches("<svg class=\"narrow\"").count(), 4);
    for (path, count) in files.hgrm.iter().zip([40_000, 40_000, 40_000]) {
        let table = fs::read_to_string(path).expect("a table");
        let total = table.split("Total count    =").nth(1).and_then(|rest| rest.split(']').next());
        let total: u64 = total.and_then(|total| total.trim().parse().ok()).expect("a count");
        assert!(total <= count && total > count * 99 / 100, "{}: {total}", path.display());
    }
}

#[test]
fn a_page_compares_two_runs_by_ratios() {
    let folder = Folder::new();
    let [slow, quick] = [(1, 3_000), (2, 0)].map(|(seed, stall_ms)| {
        let recording = synthetic::recording(seed, 30, 200, stall_ms);
        let stem = if stall_ms > 0 { "before" } else { "after" };
        write_all(&folder.path, stem, &recording, synthetic::run()).expect("files").hlog
    });
    let [slow, quick] = [slow, quick].map(|path| hlog::read(&path).expect("a log"));
    let page = html::page(&quick, Some(html::Against { name: "before", summary: &slow }));
    if std::env::var_os("HOLDFAST_LOADTEST_KEEP").is_some() {
        fs::write(folder.path.join("compared.html"), &page).expect("a file");
    }
    assert_eq!(is_balanced(&page), Ok(()));
    let row = |name: &str| {
        let table = page.split("<h2>Comparison</h2>").nth(1).expect("a comparison");
        let from = table.find(&format!("<td>{name}</td>")).expect("a row");
        table[from..].split("</tr>").next().unwrap_or_default().to_owned()
    };
    assert!(row("response p99").contains("<span class=\"good\">▲ × 0"), "{}", row("response p99"));
    // Service times come from the same dice.
    assert!(!row("service p50").contains("span"), "{}", row("service p50"));
    assert!(row("share error").contains("class=\"good\""), "{}", row("share error"));
    assert!(page.contains("slowest, before"));
}

#[test]
fn a_page_of_nothing_is_a_page() {
    let page = html::page(
        &Summary::default(),
        Some(html::Against { name: "<b>", summary: &Summary::default() }),
    );
    assert_eq!(is_balanced(&page), Ok(()));
    assert!(!page.contains("NaN") && !page.contains("<b>"));
    assert!(page.contains("no objectives") && page.contains("no audit"));
}

#[test]
fn a_void_run_and_books_that_differ_are_said_first() {
    let mut run = synthetic::run();
    run.void = Some("one request in a thousand was sent 7 ms late".to_owned());
    run.audit[1].held = false;
    let page = html::page(&Summary::new(run, Duration::ZERO), None);
    let header = page.split("</header>").next().unwrap_or_default();
    for words in ["✗ void", "sent 7 ms late", "✗ audit: the books differ"] {
        assert!(header.contains(words), "{words}");
    }
}
