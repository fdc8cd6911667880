//! The codes of refusals: those of the HTTP API with their statuses, each with a number.

/// Why something was not done: a number, for which [`Code::as_str`] has the word of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($name:ident $number:literal $word:literal $status:literal;)*) => {
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

            /// The status that HTTP has for it; 500 for a number of a later version.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    _ => 500,
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
    MALFORMED 1 "malformed" 400;
    IDEMPOTENCY_KEY_MISSING 2 "idempotency_key_missing" 400;
    UNAUTHENTICATED 3 "unauthenticated" 401;
    FORBIDDEN 4 "forbidden" 403;
    UNKNOWN_SKU 5 "unknown_sku" 404;
    UNKNOWN_RESERVATION 6 "unknown_reservation" 404;
    UNKNOWN_ORDER 7 "unknown_order" 404;
    NOT_FOUND 8 "not_found" 404;
    METHOD_NOT_ALLOWED 9 "method_not_allowed" 405;
    REQUEST_TIMEOUT 10 "request_timeout" 408;
    INSUFFICIENT_STOCK 11 "insufficient_stock" 409;
    WRONG_STATE 12 "wrong_state" 409;
    FROZEN 13 "frozen" 409;
    STALE_VERSION 14 "stale_version" 409;
    SHORTFALL 15 "shortfall" 409;
    PURCHASE_LIMIT 16 "purchase_limit" 409;
    ORDER_EXISTS 17 "order_exists" 409;
    ORDER_MISMATCH 18 "order_mismatch" 409;
    ARCHIVED 19 "archived" 410;
    TOO_LARGE 20 "too_large" 413;
    UNSUPPORTED_MEDIA_TYPE 21 "unsupported_media_type" 415;
    IDEMPOTENCY_KEY_REUSED 22 "idempotency_key_reused" 422;
    CONTENT_MISMATCH 23 "content_mismatch" 422;
    UNMAPPED 24 "unmapped" 422;
    RATE_LIMITED 25 "rate_limited" 429;
    HEADERS_TOO_LARGE 26 "headers_too_large" 431;
    INTERNAL 27 "internal" 500;
    OVERLOADED 28 "overloaded" 503;
    LOG_FULL 29 "log_full" 503;
    SHUTTING_DOWN 30 "shutting_down" 503;
    STARTING 31 "starting" 503;
    OUTCOME_UNKNOWN 32 "outcome_unknown" 504;
    PARTNER_EXISTS 33 "partner_exists" 409;
    NEEDS_RESTART 34 "needs_restart" 409;
    UNKNOWN_ROUTE 35 "unknown_route" 404;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
