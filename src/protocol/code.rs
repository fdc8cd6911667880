//! The codes of refusals: those of the HTTP API, each with a number.

/// Why something was not done: a number, for which [`Code::as_str`] has the word of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($name:ident $number:literal $word:literal;)*) => {
        impl Code {
            $(#[doc = concat!("`", $word, "`")] pub const $name: Self = Self($number);)*

            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word for it; `unknown` for a number of a later version.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                    _ => "unknown",
                }
            }

            /// The code of a word of the HTTP API.
            pub fn of_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    MALFORMED 1 "malformed";
    IDEMPOTENCY_KEY_MISSING 2 "idempotency_key_missing";
    UNAUTHENTICATED 3 "unauthenticated";
    FORBIDDEN 4 "forbidden";
    UNKNOWN_SKU 5 "unknown_sku";
    UNKNOWN_RESERVATION 6 "unknown_reservation";
    UNKNOWN_ORDER 7 "unknown_order";
    NOT_FOUND 8 "not_found";
    METHOD_NOT_ALLOWED 9 "method_not_allowed";
    REQUEST_TIMEOUT 10 "request_timeout";
    INSUFFICIENT_STOCK 11 "insufficient_stock";
    WRONG_STATE 12 "wrong_state";
    FROZEN 13 "frozen";
    STALE_VERSION 14 "stale_version";
    SHORTFALL 15 "shortfall";
    PURCHASE_LIMIT 16 "purchase_limit";
    ORDER_EXISTS 17 "order_exists";
    ORDER_MISMATCH 18 "order_mismatch";
    ARCHIVED 19 "archived";
    TOO_LARGE 20 "too_large";
    UNSUPPORTED_MEDIA_TYPE 21 "unsupported_media_type";
    IDEMPOTENCY_KEY_REUSED 22 "idempotency_key_reused";
    CONTENT_MISMATCH 23 "content_mismatch";
    UNMAPPED 24 "unmapped";
    RATE_LIMITED 25 "rate_limited";
    HEADERS_TOO_LARGE 26 "headers_too_large";
    INTERNAL 27 "internal";
    OVERLOADED 28 "overloaded";
    LOG_FULL 29 "log_full";
    SHUTTING_DOWN 30 "shutting_down";
    STARTING 31 "starting";
    OUTCOME_UNKNOWN 32 "outcome_unknown";
    PARTNER_EXISTS 33 "partner_exists";
    NEEDS_RESTART 34 "needs_restart";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
