//! Reads an HTTP/1.1 answer out of what a connection has brought so far. The head is parsed by
//! `httparse`; a body has a length, comes in chunks, or ends with the connection.

use std::borrow::Cow;

/// The most headers of an answer.
const HEADERS_MAX: usize = 48;
/// The largest head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The largest body.
const BODY_BYTES_MAX: usize = 256 << 20;

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The body, without the framing of chunks.
    pub body: Cow<'a, [u8]>,
    /// Whether the connection may be used again.
    pub keep: bool,
    /// Bytes that it took.
    pub taken: usize,
}

/// What was read so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// All of it.
    Whole(Response<'a>),
    /// There is more to come.
    Part,
    /// It is no answer in HTTP/1.1, or beyond a limit.
    Wrong(&'static str),
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
    UntilClosed,
}

/// Reads one. `closed` says that no more will come.
pub fn read(bytes: &[u8], closed: bool) -> Read<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(taken)) => taken,
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MAX => {
            return Read::Wrong("its head is too long");
        }
        Ok(httparse::Status::Partial) => return Read::Part,
        Err(_) => return Read::Wrong("it is not HTTP/1.1"),
    };
    let status = head.code.unwrap_or(0);
    let (length, keep) = match framing(status, &head) {
        Ok(framing) => framing,
        Err(why) => return Read::Wrong(why),
    };
    // 100 Continue and its like come before the answer.
    if (100..200).contains(&status) {
        return match read(&bytes[head_bytes..], closed) {
            Read::Whole(r) => Read::Whole(Response { taken: r.taken + head_bytes, ..r }),
            other => other,
        };
    }
    let rest = &bytes[head_bytes..];
    let (body, body_bytes) = match length {
        Length::Bytes(length) if length > BODY_BYTES_MAX => return Read::Wrong("it is too long"),
        Length::Bytes(length) => match rest.get(..length) {
            Some(body) => (Cow::Borrowed(body), length),
            None => return Read::Part,
        },
        Length::Chunked => match dechunk(rest) {
            Ok(Some((body, taken))) => (Cow::Owned(body), taken),
            Ok(None) => return Read::Part,
            Err(why) => return Read::Wrong(why),
        },
        Length::UntilClosed if closed => (Cow::Borrowed(rest), rest.len()),
        Length::UntilClosed => return Read::Part,
    };
    Read::Whole(Response { status, body, keep, taken: head_bytes + body_bytes })
}

fn framing(status: u16, head: &httparse::Response<'_, '_>) -> Result<(Length, bool), &'static str> {
    let mut length = None;
    let mut keep = head.version == Some(1);
    for header in head.headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
            let bytes = text.and_then(|text| text.parse().ok());
            length = length.or(Some(Length::Bytes(bytes.ok_or("its length is not a number")?)));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("its transfer encoding is unknown");
            }
            length = Some(Length::Chunked);
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep &= !value.eq_ignore_ascii_case(b"close");
        }
    }
    if status == 204 || status == 304 || (100..200).contains(&status) {
        return Ok((Length::Bytes(0), keep));
    }
    match length {
        Some(length) => Ok((length, keep)),
        None => Ok((Length::UntilClosed, false)),
    }
}

/// A body that came in chunks, and the bytes that it took; `None` if there is more to come.
fn dechunk(mut rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let all = rest.len();
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((start, size))) => (start, size),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("a chunk has no size"),
        };
        let size = usize::try_from(size).ok().filter(|size| body.len() + size <= BODY_BYTES_MAX);
        let size = size.ok_or("it is too long")?;
        if size == 0 {
            return Ok(trailers_end(&rest[start..])?.map(|end| {
                let left = rest.len() - start - end;
                (body, all - left)
            }));
        }
        let Some(chunk) = rest.get(start..start + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk does not end where it says");
        }
        body.extend_from_slice(&chunk[..size]);
        rest = &rest[start + size + 2..];
    }
}

/// Where the empty line behind the last chunk and its trailers ends.
fn trailers_end(rest: &[u8]) -> Result<Option<usize>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(rest, &mut headers) {
        Ok(httparse::Status::Complete((end, _))) => Ok(Some(end)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err("its trailers are not HTTP/1.1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str, closed: bool) -> (u16, String, bool, usize) {
        match read(text.as_bytes(), closed) {
            Read::Whole(r) => {
                (r.status, String::from_utf8(r.body.into_owned()).unwrap(), r.keep, r.taken)
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_body_has_the_length_that_its_head_says() {
        let text = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200";
        assert_eq!(whole(text, false), (201, "{}".to_owned(), true, 45));
        for end in 0..45 {
            assert_eq!(read(&text.as_bytes()[..end], false), Read::Part, "{end}");
        }
        let text = "HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n";
        assert_eq!(whole(text, false), (503, String::new(), false, text.len()));
        let text = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(whole(text, false), (204, String::new(), true, text.len()));
    }

    #[test]
    fn chunks_are_put_together() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nab\r\n\r\n3\r\ncde\r\n0\r\nA: b\r\n\r\n";
        assert_eq!(whole(text, false), (200, "ab\r\ncde".to_owned(), true, text.len()));
        for end in 0..text.len() {
            assert_eq!(read(&text.as_bytes()[..end], false), Read::Part, "{end}");
        }
    }

    #[test]
    fn without_a_length_it_ends_with_the_connection() {
        let text = "HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(read(text.as_bytes(), false), Read::Part);
        assert_eq!(whole(text, true), (200, "abc".to_owned(), false, text.len()));
        let text = "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx";
        assert!(!whole(text, false).2);
    }

    #[test]
    fn an_interim_answer_is_passed_over() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx";
        assert_eq!(whole(text, false), (200, "x".to_owned(), true, text.len()));
    }

    #[test]
    fn what_is_no_answer_is_wrong() {
        for text in [
            "HELLO\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabcd\r\n",
        ] {
            assert!(matches!(read(text.as_bytes(), true), Read::Wrong(_)), "{text:?}");
        }
    }
}
