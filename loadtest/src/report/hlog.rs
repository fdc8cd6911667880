//! Interval logs: HdrHistogram's text format V2, that its tools read.
//!
//! A line holds the histogram of one series in one interval, in nanoseconds: `Tag=granted,12.000,1.000,
//! 3.141,HISTFAAA…` is the tag (see [`Series::tag`]), the interval's begin in seconds since `BaseTime`, its
//! length in seconds, its largest value in milliseconds, and the histogram, deflated, in base64. Intervals
//! stand in the order of time. `StartTime` and `BaseTime` are both the run's start. What else is known of
//! the run stands in one comment, `#[Run: {…}]`, as JSON, which other tools pass over.
//!
//! Logs of other tools are read as well: an untagged histogram counts as granted, tags that are not known
//! are named in [`Summary::unknown_tags`]. Nothing that a file says is believed before it was checked: no
//! file makes this panic or take more memory than a few times its size.

use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use base64::Engine;
use flate2::read::ZlibDecoder;
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer, V2DeflateSerializer,
        interval_log::{
            IntervalLogHistogram, IntervalLogIterator, IntervalLogWriterBuilder,
            IntervalLogWriterError, LogEntry, LogIteratorError, Tag,
        },
    },
};

use super::{Error, run::Run, summary::Summary};
use crate::recording::{INTERVALS_MAX, Kind, Recording, Sample, Series};

/// How large a log may be, in bytes: a day of seconds has a third of it.
const FILE_MAX_BYTES: u64 = 1 << 30;

/// How large a histogram may be when it is unpacked, in bytes.
const HISTOGRAM_MAX_BYTES: u64 = 16 << 20;

/// Requests in one histogram: more than any interval could have, and few enough to be summed up.
const REQUESTS_MAX: u64 = 1 << 40;

/// The largest value, in nanoseconds: 146 years.
const VALUE_MAX_NS: u64 = 1 << 62;

/// What stands before what is known of the run, and after it.
const RUN: (&str, &str) = ("[Run: ", "]");

/// Tags that are named although they are not known.
const UNKNOWN_MAX: usize = 20;

/// Writes the interval log of a run.
///
/// # Errors
///
/// If the file can't be written.
pub fn write(path: &Path, recording: &Recording, run: &Run) -> Result<(), Error> {
    let mut file = BufWriter::new(File::create(path).map_err(Error::file(path))?);
    write_to(&mut file, recording, run, path)?;
    file.flush().map_err(Error::file(path))
}

/// Writes it somewhere; the path is for errors.
pub(super) fn write_to(
    out: &mut impl Write,
    recording: &Recording,
    run: &Run,
    path: &Path,
) -> Result<(), Error> {
    let started = recording.started().max(UNIX_EPOCH);
    let json = serde_json::to_string(run).map_err(|error| Error::Serialise(error.to_string()))?;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Values in nanoseconds; Interval_Max in milliseconds]")
        .add_comment(&format!("{}{json}{}", RUN.0, RUN.1))
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1e6)
        .begin_log_with(out, &mut serializer)
        .map_err(Error::file(path))?;
    recording.each(|sample| {
        let tag = Tag::new(sample.series.tag());
        let written = log.write_histogram(&sample.histogram, sample.begin, sample.length, tag);
        written.map_err(|error| match error {
            IntervalLogWriterError::IoError(source) => Error::file(path)(source),
            IntervalLogWriterError::SerializeError(error) => Error::Serialise(error.to_string()),
        })
    })
}

/// Reads an interval log and sums it up.
///
/// # Errors
///
/// If the file can't be read, or is not an interval log with at least one interval; names the line.
pub fn read(path: &Path) -> Result<Summary, Error> {
    let file = File::open(path).map_err(Error::file(path))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::file(path))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let (path, bytes) = (path.to_owned(), bytes.len() as u64);
        return Err(Error::TooLarge { path, bytes, bytes_max: FILE_MAX_BYTES });
    }
    read_from(&bytes, path)
}

/// Reads it from memory; the path is for errors.
pub(super) fn read_from(bytes: &[u8], path: &Path) -> Result<Summary, Error> {
    let mut reader = Reader { bytes, path, line: 1, at: 0, times: Times::default() };
    let mut summary = Summary::new(reader.run()?, Duration::ZERO);
    let mut intervals = 0;
    for entry in IntervalLogIterator::new(bytes) {
        match entry {
            Ok(LogEntry::StartTime(at)) => reader.times.start = Some(at),
            Ok(LogEntry::BaseTime(at)) => reader.times.base = Some(at),
            Ok(LogEntry::Interval(interval)) => {
                intervals += 1;
                reader.go_to(&interval);
                if intervals > INTERVALS_MAX * (Series::COUNT + 1) {
                    return Err(reader.wrong("there are too many intervals"));
                }
                reader.add(&interval, &mut summary)?;
            }
            Err(LogIteratorError::ParseError { offset }) => {
                reader.line = 1 + lines_in(bytes.get(..offset).unwrap_or_default());
                return Err(reader.wrong("not a line of an interval log, or one that was cut off"));
            }
        }
    }
    if intervals == 0 {
        return Err(Error::Empty { path: path.to_owned() });
    }
    summary.started = reader.times.start.or(reader.times.base).unwrap_or_default();
    Ok(summary.finish())
}

/// How many lines end in these bytes.
fn lines_in(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// When a log says that it starts, and what its instants count from, since the epoch.
#[derive(Debug, Default)]
struct Times {
    start: Option<Duration>,
    base: Option<Duration>,
}

impl Times {
    /// An instant since the run's start. Without a base, instants that lie more than a year before the
    /// start count from it; so does HdrHistogram's own reader see it.
    fn since_start(&mut self, at: Duration) -> Duration {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
        let absolute = match (self.base, self.start) {
            (Some(base), _) => base.saturating_add(at),
            (None, Some(start)) if at.saturating_add(YEAR) < start => start.saturating_add(at),
            _ => at,
        };
        absolute.saturating_sub(*self.start.get_or_insert(absolute))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    path: &'a Path,
    /// The line that is being read, counted from 1, and where the next one begins.
    line: usize,
    at: usize,
    times: Times,
}

impl Reader<'_> {
    fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Line { path: self.path.to_owned(), line: self.line, reason: reason.into() }
    }

    /// What is known of the run besides: nothing, in logs of other tools.
    fn run(&self) -> Result<Run, Error> {
        let prefix = format!("#{}", RUN.0);
        for (at, line) in self.bytes.split(|byte| *byte == b'\n').enumerate() {
            let Some(rest) = line.strip_prefix(prefix.as_bytes()) else { continue };
            let wrong = |reason| Error::Line { path: self.path.to_owned(), line: at + 1, reason };
            let json = rest.strip_suffix(RUN.1.as_bytes());
            let json =
                json.ok_or_else(|| wrong("what is known of the run was cut off".to_owned()))?;
            let run = serde_json::from_slice(json);
            return run.map_err(|error| wrong(format!("what is known of the run: {error}")));
        }
        Ok(Run::default())
    }

    /// Counts lines up to this interval's.
    fn go_to(&mut self, interval: &IntervalLogHistogram<'_>) {
        // What was parsed is a part of the same bytes.
        let begin = self.bytes.as_ptr() as usize;
        let offset = (interval.encoded_histogram().as_ptr() as usize).wrapping_sub(begin);
        let passed = self.bytes.get(self.at..offset).unwrap_or_default();
        self.line += lines_in(passed);
        self.at = offset;
    }

    fn add(
        &mut self,
        interval: &IntervalLogHistogram<'_>,
        summary: &mut Summary,
    ) -> Result<(), Error> {
        let tag = interval.tag().map(|tag| tag.as_str());
        let series = tag.map_or(Some(Series::Response(Kind::Granted)), Series::from_tag);
        let Some(series) = series else {
            let unknown = &mut summary.unknown_tags;
            let tag = tag.unwrap_or_default().to_owned();
            if !unknown.contains(&tag) && unknown.len() < UNKNOWN_MAX {
                unknown.push(tag);
            }
            return Ok(());
        };
        let begin = self.times.since_start(interval.start_timestamp());
        let histogram = decode(interval.encoded_histogram()).map_err(|why| self.wrong(why))?;
        let sample = Sample { begin, length: interval.duration(), series, histogram };
        summary.add(&sample).map_err(|error| self.wrong(error.to_string()))
    }
}

/// Decodes a histogram that anybody may have written.
fn decode(base64: &str) -> Result<Histogram<u64>, String> {
    let said = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let packed = base64::engine::general_purpose::STANDARD.decode(base64.trim());
    let packed = packed.map_err(|error| said("the histogram is not base64", &error))?;
    let plain = unpack(&packed)?;
    check(&plain)?;
    let mut reading = plain.as_slice();
    let histogram: Histogram<u64> = Deserializer::new()
        .deserialize(&mut reading)
        .map_err(|error| said("the histogram can't be read", &error))?;
    if histogram.len() > REQUESTS_MAX || histogram.max() > VALUE_MAX_NS {
        return Err("the histogram's counts or values are beyond all bounds".to_owned());
    }
    Ok(histogram)
}

/// The V2 form of a histogram: as it is, or out of the deflated form.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    const DEFLATED: [u8; 4] = 0x1c84_9314_u32.to_be_bytes();
    let Some(rest) = packed.strip_prefix(&DEFLATED) else { return Ok(packed.to_owned()) };
    let mut plain = Vec::new();
    let deflated = rest.get(4..).unwrap_or_default();
    let unpacked = ZlibDecoder::new(deflated).take(HISTOGRAM_MAX_BYTES + 1).read_to_end(&mut plain);
    unpacked.map_err(|error| format!("the histogram can't be unpacked: {error}"))?;
    if plain.len() as u64 > HISTOGRAM_MAX_BYTES {
        return Err("the histogram is larger than any is".to_owned());
    }
    Ok(plain)
}

/// Refuses what the decoder would believe at its peril: a length beyond what is there, bounds that no
/// value could have, and a run of zeros that can't be counted.
fn check(plain: &[u8]) -> Result<(), String> {
    const HEADER: usize = 40;
    const COUNTS_MAX: u64 = 1 << 31;
    let cut = || "the histogram was cut off".to_owned();
    let word = |at: usize| Some(u32::from_be_bytes(plain.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_be_bytes(plain.get(at..at + 8)?.try_into().ok()?));
    let length = word(4).ok_or_else(cut)? as usize;
    if long(24).ok_or_else(cut)? > i64::MAX as u64 || long(16).ok_or_else(cut)? > VALUE_MAX_NS {
        return Err("the histogram's bounds are beyond all values".to_owned());
    }
    let mut counts = plain.get(HEADER..).and_then(|rest| rest.get(..length)).ok_or_else(cut)?;
    while let Some((number, rest)) = zigzag(counts) {
        let zeros = number < 0 && number.unsigned_abs() > COUNTS_MAX;
        if zeros {
            return Err("the histogram is longer than any is".to_owned());
        }
        counts = rest;
    }
    if counts.is_empty() { Ok(()) } else { Err(cut()) }
}

/// The next number of the counts, and what follows it: little-endian groups of seven bits, nine bytes at
/// most, of which the last is a whole one.
fn zigzag(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        let last = at == 8 || byte & 0x80 == 0;
        let bits = if at == 8 { *byte } else { byte & 0x7f };
        value |= u64::from(bits) << (7 * at);
        if last {
            let number = ((value >> 1) as i64) ^ -((value & 1) as i64);
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}
