//! Questions before and after a run: blocking, one connection each. Not for what is measured.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{
    Error,
    wire::{self, Read},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much of an unexpected answer is told.
const TOLD_CHARS: usize = 300;
const BUFFER_BYTES: usize = 64 << 10;

/// Where a server is, and how it is asked.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Where it is.
    pub address: SocketAddr,
    /// What it is called in the Host header.
    pub host: String,
    /// The value of the Authorization header, if one is needed.
    pub authorization: Option<String>,
}

impl Asker {
    /// One for `http://host:port`. `api_key` is sent as a bearer token.
    ///
    /// # Errors
    /// If the URL is not of that form, or its host has no address.
    pub fn new(url: &str, api_key: Option<&str>) -> Result<Self, Error> {
        let wrong = |reason| Error::Url { url: url.to_owned(), reason };
        let host = url.strip_prefix("http://").ok_or_else(|| {
            wrong("must begin with http:// (TLS is a proxy's business, and a proxy's time)")
        })?;
        let host = host.strip_suffix('/').unwrap_or(host);
        let sound = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || !host.chars().all(sound) {
            return Err(wrong("must be http://HOST:PORT without a path"));
        }
        let named = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if named { host.to_owned() } else { format!("{host}:80") };
        let address = with_port.to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = address.ok_or_else(|| wrong("names a host without an address"))?;
        let authorization = api_key.map(|key| format!("Bearer {key}"));
        if authorization.as_ref().is_some_and(|a| a.bytes().any(|b| !(b' '..=b'~').contains(&b))) {
            return Err(wrong("got an API key with a character that a header can't have"));
        }
        Ok(Self { address, host: host.to_owned(), authorization })
    }

    /// The headers that every request has, each with its end of line.
    pub fn common_headers(&self) -> String {
        let authorization = self.authorization.as_ref();
        let authorization = authorization.map(|a| format!("Authorization: {a}\r\n"));
        format!("Host: {}\r\n{}", self.host, authorization.unwrap_or_default())
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// No connection, another status than 200, another answer.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let body = self.ask("GET", path, None)?;
        serde_json::from_slice(&body)
            .map_err(|e| Error::Garbled { what: format!("GET {path}"), reason: e.to_string() })
    }

    /// Posts a body of a media type.
    ///
    /// # Errors
    /// As [`Asker::get`].
    pub fn post(&self, path: &str, media_type: &str, body: &[u8]) -> Result<Vec<u8>, Error> {
        self.ask("POST", path, Some((media_type, body)))
    }

    fn ask(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Result<Vec<u8>, Error> {
        // A question for hundreds of SKUs is no better an error for naming them.
        let what = || format!("{method} {}", path.split('?').next().unwrap_or_default());
        let failed = |source| Error::Unreachable {
            what: "asking",
            address: self.address.to_string(),
            source,
        };
        let headers = self.common_headers();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n").into_bytes();
        if let Some((media_type, body)) = body {
            let length = body.len();
            let head = format!("Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n");
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(body);
        } else {
            request.extend_from_slice(b"\r\n");
        }
        let answer = self.exchange(&request).map_err(failed)?;
        match wire::read(&answer, true) {
            Read::Whole(response) if response.status == 200 => Ok(response.body.into_owned()),
            Read::Whole(response) => Err(Error::Refused {
                what: what(),
                status: response.status,
                body: String::from_utf8_lossy(&response.body).chars().take(TOLD_CHARS).collect(),
            }),
            Read::Part => Err(Error::Garbled { what: what(), reason: "it broke off".to_owned() }),
            Read::Wrong(why) => Err(Error::Garbled { what: what(), reason: why.to_owned() }),
        }
    }

    /// Writes a request and reads until its answer is whole or the connection ends.
    fn exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(request)?;
        let (mut answer, mut buffer) = (Vec::new(), vec![0; BUFFER_BYTES]);
        loop {
            match socket.read(&mut buffer)? {
                0 => return Ok(answer),
                length => answer.extend_from_slice(&buffer[..length]),
            }
            // The server was asked to close; only one that doesn't is looked at piece by piece.
            if answer.len() < BUFFER_BYTES && !matches!(wire::read(&answer, false), Read::Part) {
                return Ok(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        let asker = Asker::new("http://127.0.0.1:7411/", Some("k")).unwrap();
        assert_eq!(asker.address, "127.0.0.1:7411".parse::<SocketAddr>().unwrap());
        assert_eq!(asker.common_headers(), "Host: 127.0.0.1:7411\r\nAuthorization: Bearer k\r\n");
        assert_eq!(
            Asker::new("http://[::1]:80", None).unwrap().address,
            "[::1]:80".parse::<SocketAddr>().unwrap()
        );
        assert_eq!(Asker::new("http://127.0.0.1", None).unwrap().address.port(), 80);
        for (bad, says) in [
            ("127.0.0.1:7411", "http://"),
            ("https://127.0.0.1", "proxy"),
            ("http://", "without a path"),
            ("http://a/b", "without a path"),
            ("http://a b", "without a path"),
        ] {
            let said = Asker::new(bad, None).unwrap_err().to_string();
            assert!(said.contains(bad) && said.contains(says), "{said}");
        }
        assert!(Asker::new("http://127.0.0.1:1", Some("a\r\nb")).is_err());
    }
}
