//! Every code an error can have: its status, what it means, what to do. The problem pages and the
//! answers are made from the same table.

/// A code of a problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// The code itself, the last part of the problem's type.
    pub code: &'static str,
    /// The status it comes with.
    pub status: u16,
    /// One line for people.
    pub title: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What the caller should do.
    pub action: &'static str,
}

impl Code {
    /// Seconds after which to try again, where that is the thing to do.
    pub fn retry_after_s(&self) -> Option<u32> {
        match (self.status, self.code) {
            (429 | 503, "log_full") => Some(10),
            (429 | 503, "shutting_down") => Some(5),
            (429 | 503, _) => Some(1),
            _ => None,
        }
    }
}

macro_rules! codes {
    ($($name:ident $code:literal $status:literal $title:literal
       $meaning:literal $action:literal;)*) => {
        $(
            #[doc = concat!("`", $code, "`: ", $meaning)]
            pub static $name: Code = Code {
                code: $code, status: $status, title: $title, meaning: $meaning, action: $action,
            };
        )*
        /// All of them, by status.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    MALFORMED "malformed" 400 "The request is malformed"
        "A field, parameter or header is missing, unknown, given twice, or of the wrong form. The member `field` names it as a path in the body, or by the parameter's or header's name. Nothing was changed."
        "Mend the named field and send the request again; the same idempotency key may be used.";
    IDEMPOTENCY_KEY_MISSING "idempotency_key_missing" 400 "The Idempotency-Key header is missing"
        "Every POST that has an effect needs an Idempotency-Key, so that a repeat after a lost answer does not do it twice. Nothing was changed."
        "Send a key of 1 to 255 visible ASCII characters, a new one for each thing to be done, the same one for each repeat.";
    UNAUTHENTICATED "unauthenticated" 401 "The caller is not known"
        "No valid API key came with the request, or a hook's signature is wrong or too old. Nothing was changed."
        "Send the partner's API key as `Authorization: Bearer <key>`; sign a hook's message anew, with the partner's secret, at each attempt.";
    FORBIDDEN "forbidden" 403 "The caller may not do this"
        "The partner has none of the scopes that this takes; `scopes` names them. Nothing was changed."
        "Ask the operator for a key that does.";
    UNKNOWN_SKU "unknown_sku" 404 "The SKU is not known"
        "No stock was ever set for this SKU, or not at the location named. Nothing was changed."
        "Check the spelling (ids are case-sensitive), or set its stock first.";
    UNKNOWN_RESERVATION "unknown_reservation" 404 "The reservation is not known"
        "There never was such a reservation, or it was closed longer ago than the server keeps closed ones. Nothing was changed."
        "Check the id. If it was a real one, reserve anew.";
    UNKNOWN_ORDER "unknown_order" 404 "The order is not known"
        "There is no order of this id. Nothing was changed."
        "Check the id; an order exists only once its reservation was committed.";
    NOT_FOUND "not_found" 404 "There is nothing here"
        "Nothing has the name that the path gives: no sink, letter, partner, version or the like. Nothing was changed."
        "Check the name; the lists say which there are.";
    UNKNOWN_ROUTE "unknown_route" 404 "The server has no such route"
        "The path is none of the server's. Nothing was changed."
        "See /openapi.json for the paths there are.";
    METHOD_NOT_ALLOWED "method_not_allowed" 405 "The method is not allowed here"
        "The path exists, but not with this method. Nothing was changed."
        "Use one of the methods in the Allow header.";
    REQUEST_TIMEOUT "request_timeout" 408 "The request took too long to arrive"
        "The body did not arrive in time. Nothing was changed; of an import, what `applied` counts was."
        "Send it again, on a better line or in smaller parts.";
    INSUFFICIENT_STOCK "insufficient_stock" 409 "Not enough stock"
        "At least one line asks for more than is available; `lines` lists each with what was requested and what is available. Nothing was taken, and the answer is not remembered: a repeat is decided anew."
        "Ask for less, or tell the customer.";
    WRONG_STATE "wrong_state" 409 "The state does not allow this"
        "The reservation or order is not, or no longer, in a state in which this can be done: more would be shipped, cancelled, billed, paid or returned than was sold, say. `state` names the one it is in. Nothing was changed."
        "Read it and act on what it is. An expired reservation can be taken again by committing it with `revive`.";
    FROZEN "frozen" 409 "A freeze window is open"
        "In a configured freeze window replays, discards and changes of the configuration are refused; `detail` says until when, and what the window is for. Nothing was changed."
        "Wait for its end, or say `force` with a reason; it is written down.";
    NEEDS_RESTART "needs_restart" 409 "Some of the configuration needs a restart"
        "A running server takes some keys of its configuration; `detail` names those changed that it does not take. Nothing was changed, the other keys neither."
        "Restart the server with it, or leave those keys as they are.";
    STALE_VERSION "stale_version" 409 "The source version is not new"
        "A `source_version` not above the last one was sent; `last_source_version` is that one. Nothing was changed."
        "Drop the message: something newer was applied already.";
    SHORTFALL "shortfall" 409 "Less than what is promised"
        "The stock would fall below what is held and committed (members `held` and `committed`). Nothing was changed."
        "Count again; if the number is right, send it with `allow_shortfall` and settle the shortfall with the customers.";
    PURCHASE_LIMIT "purchase_limit" 409 "Beyond the limit per customer"
        "The customer would have more of a SKU than one may take in the period; `lines` lists each with `limit` and `taken`. Nothing was taken."
        "Ask for less, or tell the customer.";
    ORDER_EXISTS "order_exists" 409 "Another order has this id"
        "The order id belongs to an order made of something else. Nothing was changed."
        "Use an id of its own for every order.";
    ORDER_MISMATCH "order_mismatch" 409 "The reservation was made for another order"
        "The order id differs from the one given at the reservation. Nothing was changed."
        "Commit with the id given at the reservation.";
    PARTNER_EXISTS "partner_exists" 409 "There is a partner of this name"
        "The configuration or the log has a partner of this name, or had one whose idempotency keys are still remembered. Nothing was changed."
        "Use another name. A key that was lost is replaced by rotating it.";
    ARCHIVED "archived" 410 "Too long ago"
        "What is asked for lies beyond the horizon that the server keeps."
        "Look into the archive.";
    TOO_LARGE "too_large" 413 "The body is too large"
        "The body is larger than the server takes; `limit_bytes` says how much it does. Nothing was changed; of an import, what `applied` counts was."
        "Send it in smaller parts.";
    UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" 415 "The media type is not supported"
        "The body is not of the type this route takes, or is encoded. Nothing was changed."
        "Send application/json in UTF-8 (an import: application/x-ndjson) without a Content-Encoding.";
    IDEMPOTENCY_KEY_REUSED "idempotency_key_reused" 422 "The idempotency key was used for something else"
        "The same Idempotency-Key came before with another route or body. Nothing was changed."
        "Use a new key for a new thing; repeat a request with exactly the body it had.";
    CONTENT_MISMATCH "content_mismatch" 422 "The order has something else under this id"
        "The order already has a shipment, invoice or the like with this id, and with other content. Nothing was changed."
        "Use an id of its own for each; repeat one with exactly the content it had.";
    UNMAPPED "unmapped" 422 "The hook has no rule for this payload"
        "The message is the partner's, but no rule of its hook is for such a payload, or a field that the rule needs is not in it (member `field`). Nothing was changed."
        "Operators: mend the partner's rules, or give it an `ignore` rule for what is of no interest. Then send the message again.";
    RATE_LIMITED "rate_limited" 429 "Too many requests"
        "The partner's rate or quota is used up; the headers RateLimit and RateLimit-Policy say how much of it there is. Nothing was changed."
        "Try again after the seconds in Retry-After.";
    HEADERS_TOO_LARGE "headers_too_large" 431 "Too many or too large headers"
        "The target and headers are more than the server takes. Nothing was changed."
        "Send fewer and shorter headers.";
    INTERNAL "internal" 500 "The server failed"
        "A defect of the server ended a request that only reads. Nothing was changed."
        "Report it with the X-Request-Id of the answer.";
    OVERLOADED "overloaded" 503 "Too much at once"
        "A limit of the server is reached for now. Nothing was changed."
        "Try again after the seconds in Retry-After, with the same key.";
    LOG_FULL "log_full" 503 "The log's disk budget is spent"
        "The log can't be recycled, most likely since a sink has not taken its batches, or since the archive can't be written. Nothing was changed. Commits, releases and settlements still go through."
        "Try again after the seconds in Retry-After, with the same key. Operators: see /v1/sinks for the one that lags and holdfast_archive_failing in /metrics, or raise the budget.";
    SHUTTING_DOWN "shutting_down" 503 "The server is shutting down"
        "What was accepted is being answered, new requests are not. Nothing was changed."
        "Try again after the seconds in Retry-After, with the same key.";
    STARTING "starting" 503 "The server is starting"
        "The log is being replayed. Nothing was changed."
        "Try again after the seconds in Retry-After, with the same key.";
    OUTCOME_UNKNOWN "outcome_unknown" 504 "The outcome is not known"
        "The answer did not become certain in time: it may have been done."
        "Repeat the request with the same key and body to learn it; nothing is done twice.";
}

/// The code of this name.
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_the_order_of_their_status() {
        assert!(ALL.is_sorted_by_key(|code| code.status));
        let mut names: Vec<_> = ALL.iter().map(|code| code.code).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        for code in ALL {
            assert_eq!(code.retry_after_s().is_some(), matches!(code.status, 429 | 503));
        }
    }
}
