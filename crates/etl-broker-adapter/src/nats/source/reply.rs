//! What the subject says by which a record is acknowledged: where it stands in its stream, and how often it was given out.
//!
//! `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMER_SEQUENCE.TIMESTAMP.PENDING`; servers that know domains put a domain and an account before the stream, and may add
//! more at the end.

/// Of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Times that it was given out, this one included.
    pub(super) delivered: u64,
    /// In the stream.
    pub(super) sequence: u64,
    /// When the server stored it, in Unix milliseconds.
    pub(super) stored: i64,
}

impl Delivery {
    /// `None`: it is no such subject.
    pub(super) fn of(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        // Names of streams and consumers have no dots, so the number of tokens tells the two forms apart.
        let before = match rest.bytes().filter(|byte| *byte == b'.').count() {
            6 => 2,
            8.. => 4,
            _ => return None,
        };
        let mut tokens = rest.split('.').skip(before);
        let delivered = tokens.next()?.parse().ok()?;
        let sequence = tokens.next()?.parse().ok()?;
        let nanoseconds: i64 = tokens.nth(1)?.parse().ok()?;
        Some(Self {
            delivered,
            sequence,
            stored: nanoseconds / 1_000_000,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let expected = Delivery {
            delivered: 2,
            sequence: 17,
            stored: 1_700_000_000_123,
        };
        for reply in [
            "$JS.ACK.IN.etl.2.17.9.1700000000123456789.5",
            "$JS.ACK._.ACC.IN.etl.2.17.9.1700000000123456789.5",
            "$JS.ACK.hub.ACC.IN.etl.2.17.9.1700000000123456789.5.random",
        ] {
            assert_eq!(Delivery::of(reply), Some(expected), "{reply}");
        }
        for reply in [
            "_INBOX.abc",
            "$JS.ACK.IN.etl.2.17.9",
            "$JS.ACK.IN.etl.x.17.9.1700000000123456789.5",
            "$JS.ACK.IN.etl.2.17.9.1700000000123456789.5.6",
            "",
        ] {
            assert_eq!(Delivery::of(reply), None, "{reply}");
        }
    }
}
