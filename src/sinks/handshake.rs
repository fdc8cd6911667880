//! What a partner gives out before it takes anything, such as a token against forged requests: fetched
//! when it is needed, kept until an answer says that it is stale. Who needs it while it is fetched waits
//! for the same answer.

use hyper::{
    HeaderMap,
    header::{COOKIE, HeaderName, HeaderValue, SET_COOKIE},
};
use tokio::sync::Mutex;

use super::{fault::Fault, request::Declared, wire::Answer};
use crate::config::{self, Stale};

/// The most bytes of cookies that are kept.
const COOKIE_BYTES_MAX: usize = 8 << 10;

/// See the module.
pub(super) struct Handshake {
    pub request: Declared,
    take: Vec<HeaderName>,
    cookies: bool,
    stale: Stale,
    taken: Mutex<Option<HeaderMap>>,
}

impl Handshake {
    /// Reads the declaration.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(declared: &config::Handshake) -> Result<Self, String> {
        let name = |name: &String| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("connector.handshake.take: `{name}` is no header"))
        };
        Ok(Self {
            request: Declared::new(&declared.request())?,
            take: declared.take.iter().map(name).collect::<Result<_, _>>()?,
            cookies: declared.cookies,
            stale: declared.stale.clone(),
            taken: Mutex::new(None),
        })
    }

    /// What the other requests carry; `shake` makes the request.
    pub async fn taken(
        &self,
        shake: impl Future<Output = Result<Answer, Fault>>,
    ) -> Result<HeaderMap, Fault> {
        let mut taken = self.taken.lock().await;
        if let Some(taken) = taken.as_ref() {
            return Ok(taken.clone());
        }
        let headers = self.take(&shake.await?)?;
        *taken = Some(headers.clone());
        Ok(headers)
    }

    /// Whether an answer says that what was carried is no longer good; then it is not used again.
    pub async fn is_stale(&self, answer: &Answer) -> bool {
        let said = answer.headers.get(&self.stale.header).and_then(|value| value.to_str().ok());
        let stale = answer.status == self.stale.status
            && said.is_some_and(|said| said.eq_ignore_ascii_case(&self.stale.value));
        if stale {
            *self.taken.lock().await = None;
        }
        stale
    }

    fn take(&self, answer: &Answer) -> Result<HeaderMap, Fault> {
        let status = answer.status;
        match status {
            200..=299 => {}
            401 | 403 | 300..=399 => {
                return Err(Fault::Denied { status, retry_after: answer.retry_after() });
            }
            _ => return Err(Fault::none(format!("no handshake: the partner answered {status}"))),
        }
        let mut taken = HeaderMap::new();
        for name in &self.take {
            let value = answer.headers.get(name).ok_or_else(|| {
                Fault::none(format!("no handshake: the partner's answer has no `{name}`"))
            })?;
            let mut value = value.clone();
            value.set_sensitive(true);
            taken.insert(name, value);
        }
        if self.cookies {
            taken.extend(cookies(&answer.headers).map(|cookies| (COOKIE, cookies)));
        }
        Ok(taken)
    }
}

/// The cookies that an answer sets, without what else it says of them.
fn cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let set = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = set.filter_map(|cookie| cookie.split(';').next()).map(str::trim);
    let joined = pairs.collect::<Vec<_>>().join("; ");
    let fits = (1..=COOKIE_BYTES_MAX).contains(&joined.len());
    let mut value = HeaderValue::from_str(&joined).ok().filter(|_| fits)?;
    value.set_sensitive(true);
    Some(value)
}
