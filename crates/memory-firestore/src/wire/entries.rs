//! Index entries, as far as they are billed.

/// Index entries that a query scans besides the documents that it returns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entries {
    /// How many.
    pub(crate) count: u64,
    /// How many are billed as one read; 0 bills none.
    pub(crate) a_read: u64,
}

impl Entries {
    /// None that are billed.
    pub(crate) const FREE: Self = Self { count: 0, a_read: 0 };

    pub(super) fn reads(self) -> u64 {
        if self.a_read == 0 { 0 } else { self.count.div_ceil(self.a_read) }
    }
}
