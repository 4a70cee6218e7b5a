//! What the API asks of the place where dead letters are. The program implements it, because only it knows brokers.

use std::time::Duration;

/// The dead letters of a run. Everything may wait, and is called on threads that may.
pub trait DeadLetters: Send + Sync + 'static {
    /// The topics that hold dead letters.
    ///
    /// # Errors
    /// The place cannot be asked.
    fn topics(&self) -> Result<Vec<DeadLetterTopic>, DeadLettersError>;

    /// The newest letters that are meant, the newest first; with `before` those that come after that one.
    ///
    /// # Errors
    /// The topic cannot be read.
    fn browse(
        &self,
        wanted: &Wanted<'_>,
        before: Option<LetterKey>,
        limit: usize,
    ) -> Result<Page, DeadLettersError>;

    /// Says what is the matter with those that are meant, and, unless it is only tried, sends them back to the topics that they came from. A
    /// record that was sent back `attempts` times already is parked.
    ///
    /// # Errors
    /// Something cannot be read or written. What was sent back until then is where it belongs, and the rest stays.
    fn redrive(
        &self,
        wanted: &Wanted<'_>,
        attempts: u32,
        dry_run: bool,
    ) -> Result<Redriven, DeadLettersError>;
}

/// Why dead letters cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersError {
    /// Whether there can be none: the run writes them where none can be read again.
    pub is_absent: bool,
    /// What is the matter.
    pub message: String,
}

/// A topic that holds dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterTopic {
    /// Its name.
    pub topic: String,
    /// What is in it, where that is known.
    pub records: Option<u64>,
}

/// Which letters are meant.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Their topic.
    pub topic: &'a str,
    /// Only those that this module failed on.
    pub module: Option<&'a str>,
    /// Only those of this kind.
    pub kind: Option<&'a str>,
    /// Only those that failed within this time.
    pub since: Option<Duration>,
    /// Whether a letter of this pipeline may be told of; without one it is of what no pipeline has seen.
    pub reaches: &'a (dyn Fn(Option<&str>) -> bool + Sync),
}

/// The place of a letter among the others, newest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterKey {
    /// When it failed, in Unix milliseconds; 0 where that is not known.
    pub failed_at_unix_ms: u64,
    /// The partition in which it is.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
}

impl std::fmt::Display for LetterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            failed_at_unix_ms,
            partition,
            offset,
        } = self;
        write!(formatter, "{failed_at_unix_ms}.{partition}.{offset}")
    }
}

impl std::str::FromStr for LetterKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut pieces = text.split('.');
        let mut piece = || pieces.next().ok_or(());
        let key = Self {
            failed_at_unix_ms: piece()?.parse().map_err(drop)?,
            partition: piece()?.parse().map_err(drop)?,
            offset: piece()?.parse().map_err(drop)?,
        };
        if pieces.next().is_none() {
            Ok(key)
        } else {
            Err(())
        }
    }
}

/// Some letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The newest first.
    pub letters: Vec<Letter>,
    /// Whether there are older ones that are meant.
    pub has_more: bool,
    /// Whether the topic holds more than was looked through: what is older is not told.
    pub is_cut: bool,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its place.
    pub key: LetterKey,
    /// What kind of failure it was.
    pub kind: String,
    /// What was said.
    pub message: String,
    /// The pipeline, where one had it.
    pub pipeline: Option<String>,
    /// The priority of the stage.
    pub stage: Option<u32>,
    /// The module that failed.
    pub module: Option<String>,
    /// Its digest.
    pub module_sha256: Option<String>,
    /// The configuration in force.
    pub generation: Option<u64>,
    /// How often the call was tried.
    pub attempts: Option<u32>,
    /// How often it was sent back.
    pub redriven: u32,
    /// The topic that it came from.
    pub original_topic: Option<String>,
    /// Whether it can be sent back.
    pub can_go_back: bool,
    /// Bytes of its value.
    pub value_bytes: u64,
    /// The letter as a record line, unless it is too long to be looked at.
    pub line: Option<String>,
}

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Letters that are meant.
    pub selected: u64,
    /// Those on the topic that are not.
    pub others: u64,
    /// Records that were sent back.
    pub redriven: u64,
    /// Letters that were parked.
    pub parked: u64,
    /// Records that were refused, and stay.
    pub refused: u64,
    /// Letters of what was no record, which stay.
    pub nowhere_to_go: u64,
    /// What is the matter, the most frequent first.
    pub reasons: Vec<LetterReason>,
}

/// So many letters of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterReason {
    /// How many.
    pub count: u64,
    /// The kind of failure.
    pub kind: String,
    /// The module; empty where none failed.
    pub module: String,
    /// What was said.
    pub message: String,
}
