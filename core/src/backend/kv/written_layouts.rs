//! The layouts in which the records of instances changed, to report a change that is written in several layouts as one.

use std::collections::HashMap;
use std::sync::Arc;

/// A set of layouts, one bit for each. Layouts beyond the last bit share it.
type LayoutSet = u64;

/// The layouts in which the records of each changed instance were written or deleted since the last view.
#[derive(Default)]
pub(super) struct WrittenLayouts(HashMap<Arc<str>, Written>);

struct Written {
    /// The layouts whose records change together.
    expected: LayoutSet,
    written: LayoutSet,
}

impl WrittenLayouts {
    /// Notes that a record of an instance changes in `layout`. `expected` are the layouts whose records change with it;
    /// those of the first call count.
    pub(super) fn note(
        &mut self,
        identity: &Arc<str>,
        layout: usize,
        expected: impl Iterator<Item = usize>,
    ) {
        if let Some(written) = self.0.get_mut(identity) {
            written.written |= bit(layout);
            return;
        }
        let written = Written {
            expected: expected.map(bit).fold(0, |all, one| all | one),
            written: bit(layout),
        };
        self.0.insert(identity.clone(), written);
    }

    /// Returns true if an instance changed in some of the expected layouts only.
    pub(super) fn is_incomplete(&self) -> bool {
        let is_incomplete = |one: &Written| one.expected & !one.written != 0;
        self.0.values().any(is_incomplete)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn bit(layout: usize) -> LayoutSet {
    1 << layout.min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_complete_when_all_expected_layouts_have_it() {
        let (mut written, id) = (WrittenLayouts::default(), "h:1".into());
        assert!(!written.is_incomplete());
        written.note(&id, 0, 0..2);
        assert!(written.is_incomplete());
        written.note(&id, 1, 1..2);
        assert!(!written.is_incomplete());
        written.note(&"h:2".into(), 0, 1..3);
        assert!(written.is_incomplete());
        written.clear();
        assert!(!written.is_incomplete());
    }
}
