//! The lines of a stock file, one at a time, so that a file may be larger than the memory. A line
//! has at most 64 KiB; a longer one is refused and skipped.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use holdfast::model::{StockCount, command::ImportStock};

use super::{super::Error, Format};

/// The longest line.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A line that has something in it.
#[derive(Debug)]
pub struct Row {
    /// Its number, from 1.
    pub line: u64,
    /// What it says, or what is wrong with it.
    pub parsed: Result<ImportStock, String>,
}

/// The rows of a file.
#[derive(Debug)]
pub struct Rows<R = BufReader<File>> {
    path: PathBuf,
    input: R,
    line: u64,
    /// Where each field stands; `None` for NDJSON.
    columns: Option<Columns>,
}

impl Rows {
    /// Opens a file and reads its header, if it has one.
    pub fn open(path: &Path, format: Format) -> Result<Self, Error> {
        let file =
            File::open(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::new(path, BufReader::new(file), format)
    }
}

impl<R: BufRead> Rows<R> {
    fn new(path: &Path, input: R, format: Format) -> Result<Self, Error> {
        let mut rows = Self { path: path.to_owned(), input, line: 0, columns: None };
        if format == Format::Csv {
            let header = rows.next_line()?.unwrap_or(Ok(String::new()));
            let columns = header.and_then(|header| Columns::parse(&header));
            let line = rows.line.max(1);
            rows.columns = Some(columns.map_err(|reason| rows.wrong_line(line, reason))?);
        }
        Ok(rows)
    }

    fn wrong_line(&self, line: u64, reason: String) -> Error {
        Error::Line { path: self.path.clone(), line, reason }
    }

    /// The next row; blank lines are none.
    pub fn next_row(&mut self) -> Result<Option<Row>, Error> {
        loop {
            let Some(text) = self.next_line()? else { return Ok(None) };
            if matches!(&text, Ok(text) if text.trim().is_empty()) {
                continue;
            }
            let parsed = text.and_then(|text| match &self.columns {
                Some(columns) => columns.row(&text),
                None => serde_json::from_str(&text).map_err(|e| json_reason(&e)),
            });
            return Ok(Some(Row { line: self.line, parsed }));
        }
    }

    /// The next line without its end, or what is wrong with it.
    fn next_line(&mut self) -> Result<Option<Result<String, String>>, Error> {
        let unreadable = |source| Error::File { path: self.path.clone(), source };
        let mut bytes = Vec::new();
        let read = (&mut self.input)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(unreadable)?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if read as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
            skip_line(&mut self.input).map_err(unreadable)?;
            return Ok(Some(Err(format!("is longer than {LINE_BYTES_MAX} bytes"))));
        }
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned());
        // A byte order mark, as spreadsheets write one.
        Ok(Some(text.map(|text| match text.strip_prefix('\u{feff}') {
            Some(rest) if self.line == 1 => rest.to_owned(),
            _ => text,
        })))
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|b| *b == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// What serde says, without a place: the line has its own number.
fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Which column has which field.
#[derive(Debug, Clone, Copy, Default)]
struct Columns {
    count: usize,
    sku: usize,
    location: usize,
    on_hand: usize,
    safety_stock: Option<usize>,
    backorder_limit: Option<usize>,
    per_customer_limit: Option<usize>,
    source_version: Option<usize>,
}

impl Columns {
    fn parse(header: &str) -> Result<Self, String> {
        let names = fields(header)?;
        let at = |name: &str| names.iter().position(|n| n == name);
        let needed =
            |name: &str| at(name).ok_or_else(|| format!("the header has no column `{name}`"));
        for (i, name) in names.iter().enumerate() {
            if !COLUMNS.contains(&name.as_str()) {
                return Err(format!("unknown column `{name}`, expected {}", COLUMNS.join(", ")));
            }
            if names[..i].contains(name) {
                return Err(format!("the column `{name}` is there twice"));
            }
        }
        Ok(Self {
            count: names.len(),
            sku: needed("sku")?,
            location: needed("location")?,
            on_hand: needed("on_hand")?,
            safety_stock: at("safety_stock"),
            backorder_limit: at("backorder_limit"),
            per_customer_limit: at("per_customer_limit"),
            source_version: at("source_version"),
        })
    }

    fn row(&self, text: &str) -> Result<ImportStock, String> {
        let fields = fields(text)?;
        if fields.len() != self.count {
            return Err(format!("has {} fields, the header {}", fields.len(), self.count));
        }
        let at = |column: Option<usize>| column.map_or("", |i| fields[i].as_str());
        Ok(ImportStock {
            sku: parse("sku", at(Some(self.sku)))?,
            location: parse("location", at(Some(self.location)))?,
            on_hand: count("on_hand", at(Some(self.on_hand)))?,
            safety_stock: optional("safety_stock", at(self.safety_stock), count)?
                .unwrap_or_default(),
            backorder_limit: optional("backorder_limit", at(self.backorder_limit), count)?
                .unwrap_or_default(),
            per_customer_limit: optional("per_customer_limit", at(self.per_customer_limit), limit)?,
            source_version: optional("source_version", at(self.source_version), parse)?,
            as_of_lsn: None,
            allow_shortfall: false,
        })
    }
}

/// The columns that there may be.
const COLUMNS: [&str; 7] = [
    "sku",
    "location",
    "on_hand",
    "safety_stock",
    "backorder_limit",
    "per_customer_limit",
    "source_version",
];

fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).map_err(|e| e.to_string())?;
    Ok(record.iter().map(str::to_owned).collect())
}

fn parse<T: FromStr<Err: std::fmt::Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|e| format!("`{name}` {e}"))
}

fn count(name: &str, text: &str) -> Result<StockCount, String> {
    let units = text.parse().map_err(|_| format!("`{name}` must be a whole number"))?;
    StockCount::new(units).map_err(|e| format!("`{name}` {e}"))
}

fn limit(name: &str, text: &str) -> Result<Option<StockCount>, String> {
    if text == "none" { Ok(None) } else { count(name, text).map(Some) }
}

fn optional<T>(
    name: &str,
    text: &str,
    parse: impl Fn(&str, &str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(name, text).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[u8], format: Format) -> Result<Vec<Row>, Error> {
        let mut rows = Rows::new(Path::new("stock"), text, format)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next_row()? {
            all.push(row);
        }
        Ok(all)
    }

    #[test]
    fn csv_columns_are_found_by_name() {
        let text = "\u{feff}location, sku ,on_hand,per_customer_limit,source_version\r\n\
                    BER,TEE-M,100,2,7\r\n\r\n\"H,1\",TEE-M,0,,\r\nBER,TEE-L,5,none,";
        let rows = rows(text.as_bytes(), Format::Csv).unwrap();
        let lines: Vec<_> = rows.iter().map(|r| r.line).collect();
        assert_eq!(lines, [2, 4, 5]);
        let parsed: Vec<_> = rows.into_iter().map(|r| r.parsed.unwrap()).collect();
        assert_eq!((parsed[0].sku.as_str(), parsed[0].on_hand.get()), ("TEE-M", 100));
        assert_eq!(parsed[0].per_customer_limit, Some(Some(StockCount::new(2).unwrap())));
        assert_eq!(parsed[0].source_version, Some(7));
        assert_eq!((parsed[1].location.as_str(), parsed[1].per_customer_limit), ("H,1", None));
        assert_eq!(parsed[2].per_customer_limit, Some(None));
    }

    #[test]
    fn a_wrong_header_is_an_error() {
        for (text, reason) in [
            ("sku,location\n", "no column `on_hand`"),
            ("sku,location,onhand\n", "unknown column `onhand`"),
            ("sku,sku,location,on_hand\n", "`sku` is there twice"),
            ("", "no column"),
        ] {
            let error = rows(text.as_bytes(), Format::Csv).unwrap_err().to_string();
            assert!(error.starts_with("stock:1: ") || text.is_empty(), "{error}");
            assert!(error.contains(reason) || text.is_empty(), "{error}");
        }
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong_and_the_rest_goes_on() {
        let long = "x".repeat(200_000);
        let text = format!(
            "sku,location,on_hand\n,B,1\nA,B,many\nA,B,-1\nA,B\nA,B,2000000000\n{long}\nA,B,7"
        );
        let rows = rows(text.as_bytes(), Format::Csv).unwrap();
        let reasons: Vec<_> = rows.iter().map(|r| r.parsed.as_ref().err()).collect();
        let expected = [
            "`sku` must be 1 to 64 characters",
            "`on_hand` must be a whole number",
            "`on_hand` must be a whole number",
            "has 2 fields, the header 3",
            "`on_hand` must be 0 to 1000000000",
            "is longer than 65536 bytes",
        ];
        for (i, expected) in expected.into_iter().enumerate() {
            assert_eq!(reasons[i].unwrap(), expected, "line {}", i + 2);
        }
        assert_eq!(rows[6].line, 8);
        assert_eq!(rows[6].parsed.as_ref().unwrap().on_hand.get(), 7);
    }

    #[test]
    fn ndjson_is_checked_line_by_line() {
        let text = b"{\"sku\":\"A\",\"location\":\"B\",\"on_hand\":3}\n\n{\"sku\":\"A\"}\n\
                     {\"sku\":\"A\",\"location\":\"B\",\"on_hand\":3,\"colour\":1}\n\xff\n";
        let rows = rows(text, Format::Ndjson).unwrap();
        assert_eq!(rows.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert_eq!(rows[0].parsed.as_ref().unwrap().on_hand.get(), 3);
        assert_eq!(rows[1].parsed.as_ref().unwrap_err(), "missing field `location`");
        assert!(rows[2].parsed.as_ref().unwrap_err().starts_with("unknown field `colour`"));
        assert_eq!(rows[3].parsed.as_ref().unwrap_err(), "is not UTF-8");
    }
}
