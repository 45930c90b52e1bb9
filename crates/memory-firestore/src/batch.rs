//! How many documents one request writes where they need not go together.

use memory_core::{ErrorKind, Result};
use prost::Message as _;

use crate::commit::too_contended;
use crate::store::FirestoreStore;
use crate::wire::{Call, Refused, Write};

/// Bytes that are left free in a request, for what goes along with its batch.
pub(crate) const MARGIN: usize = 8 * 1024;
/// Bytes of a write besides names, at the most.
pub(crate) const WRITE_BYTES: usize = 128;

/// How many documents to try where a request of `documents` was refused for being too large; `None`
/// where it was refused for something else, or cannot be smaller.
///
/// A request within all limits that can be counted may still be more than a transaction takes: the
/// service counts the entries of all indexes, and answers with the code of an invalid request.
pub(crate) fn fewer(refused: &Refused, documents: usize) -> Option<usize> {
    match refused {
        Refused::Error(error) if error.kind() == ErrorKind::InvalidInput && documents > 1 => {
            Some((documents / 4).max(1))
        }
        _ => None,
    }
}

/// How many of these sizes, in bytes, fit into `most`; one at the least.
pub(crate) fn fitting(most: usize, sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0_usize;
    let fits = |size: &usize| {
        bytes = bytes.saturating_add(*size);
        bytes <= most
    };
    sizes.take_while(fits).count().max(1)
}

impl FirestoreStore {
    /// Bytes of a request that a batch may fill.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.wire.request_bytes().saturating_sub(MARGIN)
    }

    /// How many of these writes one request takes, by their bytes; one at the least.
    pub(crate) fn fitting(&self, writes: &[Write]) -> usize {
        fitting(self.batch_bytes(), writes.iter().map(|write| write.encoded_len() + 8))
    }

    /// Sends writes that no precondition can refuse, in as many requests of up to `most` as they
    /// take. What was sent before a failure stays.
    pub(crate) async fn commit_apart(
        &self,
        call: Call<'_>,
        writes: &[Write],
        mut most: usize,
    ) -> Result<()> {
        let mut left = writes;
        while !left.is_empty() {
            let some = &left[..most.min(left.len())];
            let some = &some[..self.fitting(some)];
            match self.wire.commit(call, some.to_vec(), Vec::new()).await {
                Ok(_) => left = &left[some.len()..],
                Err(refused) => match (fewer(&refused, some.len()), refused) {
                    (Some(fewer), _) => most = fewer,
                    (None, Refused::Error(error)) => return Err(error),
                    (None, Refused::Contended) => return Err(too_contended()),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use memory_core::Error;
    use tonic::{Code, Status};

    use super::*;
    use crate::error::{Effect, map};

    fn refused(code: Code) -> Refused {
        Refused::Error(map(&Status::new(code, "Transaction too big."), Effect::Writes))
    }

    #[test]
    fn a_request_that_is_too_big_is_sent_in_smaller_ones_down_to_single_documents() {
        let mut documents = 500;
        let mut tried = vec![documents];
        while let Some(fewer) = fewer(&refused(Code::InvalidArgument), documents) {
            documents = fewer;
            tried.push(documents);
        }
        assert_eq!(tried, [500, 125, 31, 7, 1]);
        // Also where it was this side that found it too large.
        assert_eq!(fewer(&Refused::Error(Error::invalid("too many bytes")), 3), Some(1));
    }

    #[test]
    fn other_refusals_are_no_reason_to_send_less() {
        assert_eq!(fewer(&Refused::Contended, 500), None);
        for code in [Code::Unavailable, Code::PermissionDenied, Code::ResourceExhausted] {
            assert_eq!(fewer(&refused(code), 500), None, "{code:?}");
        }
    }

    #[test]
    fn sizes_are_counted_up_to_the_bound() {
        assert_eq!(fitting(10, [4, 6, 1].into_iter()), 2);
        assert_eq!(fitting(10, [11, 1].into_iter()), 1, "one at the least");
        assert_eq!(fitting(10, [1, 2].into_iter()), 2);
    }
}
