//! Grants that were taken from their owners, who must not register again. Pure.

use std::collections::VecDeque;

/// Maximum number of grants that are remembered. Their owners learn of it with their next request.
const MAX_REVOKED_GRANTS: usize = 1024;

/// Grants of registrations that another owner replaced or another client removed.
#[derive(Debug, Default)]
pub struct RevokedGrants {
    /// Oldest first.
    grants: VecDeque<u64>,
}

impl RevokedGrants {
    /// Remembers a grant. Forgets the oldest beyond the limit.
    pub fn add(&mut self, grant: u64) {
        if self.grants.len() == MAX_REVOKED_GRANTS {
            self.grants.pop_front();
        }
        self.grants.push_back(grant);
    }

    /// Returns true if the grant was revoked and is remembered.
    pub fn contains(&self, grant: u64) -> bool {
        self.grants.contains(&grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_revoked_grants_is_bounded() {
        let mut revoked = RevokedGrants::default();
        let count = MAX_REVOKED_GRANTS as u64 + 1;
        (0..count).for_each(|grant| revoked.add(grant));
        assert!(!revoked.contains(0));
        assert!(revoked.contains(1) && revoked.contains(count - 1));
    }
}
