//! What is kept apart in a recording: how requests ended, and the tags that files know it by.

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done.
    Granted,
    /// Nothing left.
    SoldOut,
    /// Refused for another reason of the house.
    Refused,
    /// Turned away for load.
    Shed,
    /// An error, or a connection that broke.
    Error,
    /// No answer in time.
    TimedOut,
    /// Never sent.
    Unsent,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Granted,
        Self::SoldOut,
        Self::Refused,
        Self::Shed,
        Self::Error,
        Self::TimedOut,
        Self::Unsent,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its word, in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Unsent => "unsent",
            answered => answered.kind().as_str(),
        }
    }

    /// What files count it under: what was not answered is an error to whoever asked.
    pub fn kind(self) -> Kind {
        match self {
            Self::Granted => Kind::Granted,
            Self::SoldOut => Kind::SoldOut,
            Self::Refused => Kind::Refused,
            Self::Shed => Kind::Shed,
            Self::Error | Self::TimedOut | Self::Unsent => Kind::Error,
        }
    }
}

/// Outcomes as files tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Done.
    Granted,
    /// Nothing left.
    SoldOut,
    /// Refused for another reason of the house.
    Refused,
    /// Turned away for load.
    Shed,
    /// An error, no answer in time, or never sent.
    Error,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Granted, Self::SoldOut, Self::Refused, Self::Shed, Self::Error];

    /// Its word, in files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::SoldOut => "sold_out",
            Self::Refused => "refused",
            Self::Shed => "shed",
            Self::Error => "error",
        }
    }
}

/// One line of histograms through a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Series {
    /// From the planned instant to the answer.
    Response(Kind),
    /// From the sending to the answer; what was never sent has none.
    Service(Kind),
    /// From the planned instant to the sending: how late the tester was.
    Lag,
}

impl Series {
    /// How many there are.
    pub const COUNT: usize = 2 * Kind::ALL.len() + 1;

    /// All of them, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        let responses = Kind::ALL.into_iter().map(Self::Response);
        let services = Kind::ALL.into_iter().map(Self::Service);
        responses.chain(services).chain([Self::Lag])
    }

    /// Its number, below [`COUNT`](Self::COUNT).
    pub fn index(self) -> usize {
        match self {
            Self::Response(kind) => kind as usize,
            Self::Service(kind) => Kind::ALL.len() + kind as usize,
            Self::Lag => 2 * Kind::ALL.len(),
        }
    }

    /// Its tag in an interval log: an outcome's word for its response times, the same after `service_`
    /// for its service times, and `lag`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Response(kind) => kind.as_str(),
            Self::Service(Kind::Granted) => "service_granted",
            Self::Service(Kind::SoldOut) => "service_sold_out",
            Self::Service(Kind::Refused) => "service_refused",
            Self::Service(Kind::Shed) => "service_shed",
            Self::Service(Kind::Error) => "service_error",
            Self::Lag => "lag",
        }
    }

    /// The series with this tag.
    pub fn from_tag(tag: &str) -> Option<Self> {
        Self::all().find(|series| series.tag() == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_its_own_number_and_tag() {
        let all: Vec<Series> = Series::all().collect();
        assert_eq!(all.len(), Series::COUNT);
        for (at, series) in all.into_iter().enumerate() {
            assert_eq!(series.index(), at, "{series:?}");
            assert_eq!(Series::from_tag(series.tag()), Some(series));
            let prefix =
                if let Series::Service(kind) = series { Some(kind.as_str()) } else { None };
            assert_eq!(series.tag().strip_prefix("service_"), prefix);
        }
        assert_eq!(Series::from_tag("unknown"), None);
    }

    #[test]
    fn what_was_not_answered_counts_as_an_error() {
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
            let unanswered = matches!(outcome, Outcome::TimedOut | Outcome::Unsent);
            assert_eq!(outcome.kind().as_str() != outcome.as_str(), unanswered, "{outcome:?}");
        }
        assert_eq!(Outcome::Unsent.kind(), Kind::Error);
    }
}
