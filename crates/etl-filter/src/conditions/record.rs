//! What conditions need of a record: four methods.

/// A record that conditions can be asked about.
///
/// Each method is called only when a condition needs it. `value` above all: a set of header conditions never asks for it.
pub trait RecordView {
    /// The value of the first header of exactly this name.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The payload.
    fn value(&self) -> &[u8];
    /// The length of the payload in bytes; the same as `value().len()`, where that is cheaper to know.
    fn length(&self) -> usize;
    /// Unix milliseconds.
    fn timestamp(&self) -> Option<i64>;
}

impl<R: RecordView + ?Sized> RecordView for &R {
    fn header(&self, name: &str) -> Option<&[u8]> {
        (**self).header(name)
    }

    fn value(&self) -> &[u8] {
        (**self).value()
    }

    fn length(&self) -> usize {
        (**self).length()
    }

    fn timestamp(&self) -> Option<i64> {
        (**self).timestamp()
    }
}
