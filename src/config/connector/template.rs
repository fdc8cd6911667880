//! Templates (Jinja) of bodies, paths and headers.
//!
//! What a value may be never decides what a request means: in a JSON body every value is written as
//! JSON, in XML and in a form or a URL it is escaped, so that no SKU and no account's name can break out
//! of its place. Names that don't exist are errors. A template can neither run for ever nor grow
//! without bound, reads no file, and has no clock and no dice.

use std::io;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
    escape_formatter, value::Serde,
};
use serde_json::Value as Json;

use super::Connector;
use crate::model::Currency;

/// Steps that a template may take: enough for many thousand lines of many fields.
const FUEL: u64 = 20_000_000;
/// The most characters of an error that are told.
const ERROR_CHARS_MAX: usize = 300;
/// The least and the most characters of a shortened name: 60 bits are the least that make two alike
/// improbable.
const SHORT_CHARS: std::ops::RangeInclusive<usize> = 12..=51;

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// As JSON: a text with its quotes.
    Json,
    /// With XML's entities.
    Xml,
    /// With `%` and two digits where a URL or a form has a meaning of its own.
    Url,
    /// As it is; for headers, which are checked as a whole.
    Plain,
}

impl Escape {
    /// How values are written in a body of a type; `None` if a template can't write such a body.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let name = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match name.as_str() {
            "application/json" => Some(Self::Json),
            "application/xml" | "text/xml" => Some(Self::Xml),
            "application/x-www-form-urlencoded" => Some(Self::Url),
            _ if name.ends_with("+json") => Some(Self::Json),
            _ if name.ends_with("+xml") => Some(Self::Xml),
            _ => None,
        }
    }
}

/// Why there is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrendered {
    /// It would be too long, or take too long.
    #[error("the template makes more than {bytes_max} bytes of it, or takes too many steps")]
    TooLarge {
        /// What it may make.
        bytes_max: u64,
    },
    /// The receiver has no form for such content; halves of it may be otherwise.
    #[error("{0}")]
    Content(String),
    /// The template does not fit what it is given.
    #[error("{0}")]
    Wrong(String),
}

/// A template, read once.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn new(source: &str, escape: Escape) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(50);
        environment.set_auto_escape_callback(move |_| match escape {
            Escape::Json => AutoEscape::Json,
            Escape::Xml => AutoEscape::Html,
            Escape::Url | Escape::Plain => AutoEscape::None,
        });
        environment.set_formatter(move |out, state, value| write(out, state, value, escape));
        // What would switch the escaping off, or write something else than the escaping asks for.
        for filter in ["safe", "escape", "e"] {
            environment.remove_filter(filter);
        }
        environment.add_filter("major", major);
        environment.add_filter("short", short);
        environment.add_filter("one", one);
        environment.add_filter("url", |text: String| encoded(&text));
        environment
            .add_template_owned("template", source.to_owned())
            .map_err(|error| told(&error))?;
        Ok(Self { environment })
    }

    /// Whether it uses nothing but the part's id, a site's own values and an earlier answer.
    pub fn needs_no_lines(&self) -> bool {
        self.environment.get_template("template").is_ok_and(|template| {
            let names = template.undeclared_variables(false);
            names.iter().all(|name| ["part_id", "vars", "answer"].contains(&name.as_str()))
        })
    }

    /// The names that it uses and that don't exist, as it writes them: an error names none.
    fn not_given(&self, context: &Context) -> Vec<String> {
        let is_there = |name: &str| {
            let found = name.split('.').try_fold(context.value.clone(), |value, part| {
                value.get_attr(part).ok().filter(|value| !value.is_undefined())
            });
            found.is_some()
        };
        let names = self.environment.get_template("template");
        let names = names.map(|template| template.undeclared_variables(true)).unwrap_or_default();
        let mut missing: Vec<String> = names
            .into_iter()
            .filter(|name| !is_there(name) && !self.is_global(name))
            .map(|name| format!("`{name}`"))
            .collect();
        missing.sort();
        missing
    }

    fn is_global(&self, name: &str) -> bool {
        self.environment.globals().any(|(global, _)| global == name)
    }

    /// Renders it.
    ///
    /// # Errors
    /// If it would be too large, or does not fit what it is given.
    pub fn render(&self, context: &Context, bytes_max: u64) -> Result<String, Unrendered> {
        let wrong = |error: &Error| Unrendered::Wrong(told(error));
        let template = self.environment.get_template("template").map_err(|e| wrong(&e))?;
        let mut out = Bounded { bytes: Vec::new(), bytes_max, over: false };
        match template.render_captured_to(context.value.clone(), &mut out) {
            Ok(_) => {}
            Err(_) if out.over => return Err(Unrendered::TooLarge { bytes_max }),
            Err(e) if e.kind() == ErrorKind::OutOfFuel => {
                return Err(Unrendered::TooLarge { bytes_max });
            }
            Err(error) if error.detail().is_some_and(|what| what.starts_with(UNFIT)) => {
                return Err(Unrendered::Content(told(&error)));
            }
            Err(error) if error.kind() == ErrorKind::UndefinedError => {
                let (what, names) = (told(&error), self.not_given(context));
                return Err(Unrendered::Wrong(match names.is_empty() {
                    true => what,
                    false => format!("{what}; not given: {}", names.join(", ")),
                }));
            }
            Err(error) => return Err(wrong(&error)),
        }
        String::from_utf8(out.bytes).map_err(|e| Unrendered::Wrong(e.to_string()))
    }
}

/// What a template finds.
#[derive(Debug, Clone)]
pub struct Context {
    value: Value,
}

impl Context {
    /// A part's content, with `part_id` and `vars`; `batch` may be `null`.
    pub fn new(part_id: &str, batch: Json, connector: &Connector) -> Self {
        let mut object = match batch {
            Json::Object(object) => object,
            Json::Null => serde_json::Map::new(),
            // A list of events, which has no head.
            other => [("events".to_owned(), other)].into_iter().collect(),
        };
        object.insert("part_id".into(), part_id.into());
        object.insert("vars".into(), connector.vars.clone().into_iter().collect());
        Self { value: Value::from(Serde(object)) }
    }

    /// The same with what an earlier request was answered, as `answer`.
    pub fn with_answer(&self, answer: &Json) -> Self {
        let answer = Value::from(Serde(answer));
        let value = minijinja::context! { answer, ..self.value.clone() };
        Self { value }
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: u64,
    over: bool,
}

impl io::Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.bytes_max {
            self.over = true;
            return Err(io::Error::other("too many bytes"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(out: &mut Output, state: &mut State, value: &Value, escape: Escape) -> Result<(), Error> {
    if escape != Escape::Json && (value.is_none() || value.is_undefined()) {
        return Err(Error::new(ErrorKind::InvalidOperation, "there is no text for nothing (null)"));
    }
    match escape {
        Escape::Json | Escape::Xml => escape_formatter(out, state, value),
        Escape::Url => Ok(out.write_str(&encoded(&value.to_string()))?),
        Escape::Plain => Ok(out.write_str(&value.to_string())?),
    }
}

/// Percent-encoded, but for what RFC 3986 calls unreserved.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// `{{ posting.debit | major(entry.currency) }}`: an amount in minor units as a decimal number.
fn major(minor: i128, currency: &str) -> Result<Value, Error> {
    let currency = Currency::of_any_time(currency)
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("major: {e}")))?;
    let decimals = currency.decimals();
    let unit = 10_u128.pow(decimals);
    let (sign, units) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs());
    Ok(Value::from_safe_string(match decimals {
        0 => format!("{sign}{units}"),
        _ => format!("{sign}{}.{:0w$}", units / unit, units % unit, w = decimals as usize),
    }))
}

/// What an error begins with that is the content's and not the template's.
const UNFIT: &str = "one: ";

/// `{{ entries | one("currency") }}`: the value that all items share; where there are several, or it is
/// not the `expected` one, the content is not fit to be sent like this.
fn one(items: &Value, attribute: &str, expected: Option<Value>) -> Result<Value, Error> {
    let unfit = |what: String| Error::new(ErrorKind::InvalidOperation, format!("{UNFIT}{what}"));
    let mut shared = expected;
    for item in items.try_iter()? {
        let value = item.get_attr(attribute)?;
        match &shared {
            Some(shared) if *shared != value => {
                return Err(unfit(format!("`{attribute}` is {shared} and {value}")));
            }
            _ => shared = Some(value),
        }
    }
    shared.ok_or_else(|| unfit(format!("there is no item with `{attribute}`")))
}

/// `{{ part_id | short(20) }}`: the text if it has no more characters, else so many that stand for it
/// alone. For receivers whose numbers are shorter than ours.
fn short(text: &str, chars_max: usize) -> Result<String, Error> {
    if !SHORT_CHARS.contains(&chars_max) {
        let what = format!(
            "short: must be {} to {} characters, so that no two texts get the same",
            SHORT_CHARS.start(),
            SHORT_CHARS.end()
        );
        return Err(Error::new(ErrorKind::InvalidOperation, what));
    }
    if text.len() <= chars_max && text.is_ascii() {
        return Ok(text.to_owned());
    }
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digest = blake3::hash(text.as_bytes());
    let bit = |at: usize| digest.as_bytes()[at / 8] >> (7 - at % 8) & 1;
    let digit = |n: usize| (5 * n..5 * n + 5).fold(0, |digit, at| digit << 1 | bit(at));
    Ok((0..chars_max).map(|n| char::from(DIGITS[usize::from(digit(n))])).collect())
}

/// What is wrong, in a line.
fn told(error: &Error) -> String {
    let mut told = error.to_string().replace(['\n', '\r'], " ");
    if let Some(line) = error.line() {
        let place = format!("(in line {line} of the template)");
        told = told.replace(&format!("(in template:{line})"), &place);
    }
    if let Some((end, _)) = told.char_indices().nth(ERROR_CHARS_MAX) {
        told.truncate(end);
    }
    told
}
