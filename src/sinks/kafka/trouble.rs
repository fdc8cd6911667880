//! What goes wrong with a broker, and what that means for an attempt.

use super::super::fault::Fault;
use crate::delivery::Effect;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The connection can't be made or broke.
    #[error("{0}")]
    Broken(String),
    /// It is no Kafka broker, or not one that speaks as we do.
    #[error("the broker's answer can't be read: {0}")]
    Unreadable(&'static str),
    /// The broker speaks no version of a request that we speak.
    #[error(
        "the broker does not speak {api} in version {version}: it must be Kafka 1.0 or later, or \
             do as much"
    )]
    Version {
        /// The request.
        api: &'static str,
        /// The version that we speak.
        version: i16,
    },
    /// The broker says that it did not do it.
    #[error("the broker says {} to {api}{place}", name(*code))]
    Said {
        /// The request.
        api: &'static str,
        /// Which partition, or what else; begins with a space, or is empty.
        place: String,
        /// Kafka's number of the error.
        code: i16,
    },
    /// Who we are can't be shown in a way that the broker takes.
    #[error("{0}")]
    Unauthenticated(String),
}

/// Kafka's error codes that are told apart here.
pub(super) mod code {
    pub const NONE: i16 = 0;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const RECORD_LIST_TOO_LARGE: i16 = 18;
    pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
    pub const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
    pub const CONCURRENT_TRANSACTIONS: i16 = 51;
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    pub const SASL_AUTHENTICATION_FAILED: i16 = 58;
    pub const INVALID_RECORD: i16 = 87;
}

/// What an error is called in Kafka's documentation.
fn name(code: i16) -> String {
    let name = match code {
        -1 => "UNKNOWN_SERVER_ERROR",
        1 => "OFFSET_OUT_OF_RANGE",
        2 => "CORRUPT_MESSAGE",
        3 => "UNKNOWN_TOPIC_OR_PARTITION",
        5 => "LEADER_NOT_AVAILABLE",
        6 => "NOT_LEADER_OR_FOLLOWER",
        7 => "REQUEST_TIMED_OUT",
        9 => "REPLICA_NOT_AVAILABLE",
        10 => "MESSAGE_TOO_LARGE",
        13 => "NETWORK_EXCEPTION",
        14 => "COORDINATOR_LOAD_IN_PROGRESS",
        15 => "COORDINATOR_NOT_AVAILABLE",
        16 => "NOT_COORDINATOR",
        17 => "INVALID_TOPIC",
        18 => "RECORD_LIST_TOO_LARGE",
        19 => "NOT_ENOUGH_REPLICAS",
        20 => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        21 => "INVALID_REQUIRED_ACKS",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        31 => "CLUSTER_AUTHORIZATION_FAILED",
        32 => "INVALID_TIMESTAMP",
        33 => "UNSUPPORTED_SASL_MECHANISM",
        34 => "ILLEGAL_SASL_STATE",
        35 => "UNSUPPORTED_VERSION",
        42 => "INVALID_REQUEST",
        45 => "OUT_OF_ORDER_SEQUENCE_NUMBER",
        46 => "DUPLICATE_SEQUENCE_NUMBER",
        47 => "INVALID_PRODUCER_EPOCH (another producer has taken over the transactional id)",
        48 => "INVALID_TXN_STATE",
        49 => "INVALID_PRODUCER_ID_MAPPING",
        50 => "INVALID_TRANSACTION_TIMEOUT",
        51 => "CONCURRENT_TRANSACTIONS",
        53 => "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        56 => "KAFKA_STORAGE_ERROR",
        58 => "SASL_AUTHENTICATION_FAILED",
        59 => "UNKNOWN_PRODUCER_ID",
        72 => "LISTENER_NOT_FOUND",
        78 => "OFFSET_NOT_AVAILABLE",
        87 => "INVALID_RECORD",
        90 => "PRODUCER_FENCED (another producer has taken over the transactional id)",
        _ => return format!("error {code}"),
    };
    name.to_owned()
}

impl Trouble {
    /// Turns an error code into a trouble.
    pub fn unless_none(api: &'static str, place: String, code: i16) -> Result<(), Self> {
        match code {
            code::NONE => Ok(()),
            _ => Err(Self::Said { api, place, code }),
        }
    }

    /// Whether the same may be asked again a moment later.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Said {
                code: code::COORDINATOR_LOAD_IN_PROGRESS
                    | code::COORDINATOR_NOT_AVAILABLE
                    | code::CONCURRENT_TRANSACTIONS,
                ..
            }
        )
    }

    /// What it means for the attempt; `effect`: whether events may be there.
    pub fn fault(self, effect: Effect) -> Fault {
        let status = match &self {
            Self::Said { code: code::SASL_AUTHENTICATION_FAILED, .. } => Some(401),
            Self::Said {
                code:
                    code::TOPIC_AUTHORIZATION_FAILED
                    | code::CLUSTER_AUTHORIZATION_FAILED
                    | code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                ..
            } => Some(403),
            _ => None,
        };
        match (status, effect) {
            // What was begun is not hidden behind the refusal.
            (Some(status), Effect::None) => Fault::Denied { status, retry_after: None },
            _ => Fault::Failed { reason: self.to_string(), retry_after: None, effect },
        }
    }
}
