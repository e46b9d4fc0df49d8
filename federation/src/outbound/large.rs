//! What large answers of other servers take in memory, all together: the state of a large room may be hundreds of
//! megabytes, and a liar can make that up.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of an answer that count as none.
const SMALL: usize = 8 << 20;
/// Bytes in a part, which is what is counted.
const PART: usize = 1 << 20;

/// The room that there is for large answers.
pub(super) struct Large(Arc<Semaphore>);

/// What an answer takes of it, until it is dropped.
#[derive(Default)]
pub(super) struct Share(Option<OwnedSemaphorePermit>);

impl Large {
    /// Room for so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PART)))
    }

    /// Lets an answer grow to a size; false where there is no room for that.
    pub(super) fn grow(&self, share: &mut Share, size: usize) -> bool {
        let held = share.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = size.saturating_sub(SMALL).div_ceil(PART).saturating_sub(held);
        let Ok(wanted) = u32::try_from(wanted) else { return false };
        if wanted == 0 {
            return true;
        }
        let Ok(more) = self.0.clone().try_acquire_many_owned(wanted) else { return false };
        match &mut share.0 {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_answers_share_what_there_is() {
        let large = Large::new(4 * PART);
        let (mut one, mut two) = (Share::default(), Share::default());
        assert!(large.grow(&mut one, SMALL) && large.grow(&mut two, SMALL), "small ones need none");
        assert!(large.grow(&mut one, SMALL + 1) && large.grow(&mut one, SMALL + 3 * PART));
        assert!(!large.grow(&mut two, SMALL + 2 * PART), "one part is left");
        assert!(large.grow(&mut two, SMALL + PART));
        drop(one);
        assert!(large.grow(&mut two, SMALL + 4 * PART), "what is dropped makes room");
        assert!(!large.grow(&mut two, usize::MAX));
    }
}
