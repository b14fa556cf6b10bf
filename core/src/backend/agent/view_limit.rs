//! Limits on the instances of one service that an agent may send, so that a faulty one cannot exhaust this process.
//! Pure.

use crate::error::{Error, Result};
use crate::model::{Instance, ServiceName};

/// Maximum size of all instances of a service, in bytes.
const MAX_VIEW_BYTES: usize = 256 * 1024 * 1024;
/// Size of an instance without its texts, in bytes.
const INSTANCE_BYTES: usize = 128;

/// Size of a text without its characters, in bytes.
const TEXT_BYTES: usize = 24;

/// The size of the view that a stream builds, with its limits.
pub(super) struct ViewLimit {
    max_instances: u64,
    max_bytes: usize,
    bytes: usize,
}

impl ViewLimit {
    pub(super) fn new(max_instances: u64) -> ViewLimit {
        ViewLimit {
            max_instances,
            max_bytes: MAX_VIEW_BYTES,
            bytes: 0,
        }
    }

    /// Counts an instance that was added to the view, which has `count` instances now.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if a limit is exceeded, as a
    /// list of etcd with too many keys does.
    pub(super) fn add(
        &mut self,
        service: &ServiceName,
        instance: &Instance,
        count: usize,
    ) -> Result<()> {
        self.bytes = self.bytes.saturating_add(instance_bytes(instance));
        let max = self.max_instances;
        if count as u64 > max {
            return Err(Error::invalid(format!(
                "{service}: the agent sends more than {max} instances; raise the option max_instances if they are \
                 intended"
            )));
        }
        let max = self.max_bytes;
        if self.bytes > max {
            return Err(Error::invalid(format!(
                "{service}: the agent sends instances of more than {max} bytes, the limit for one service"
            )));
        }
        Ok(())
    }

    /// Counts an instance that was removed from the view.
    pub(super) fn remove(&mut self, instance: &Instance) {
        self.bytes = self.bytes.saturating_sub(instance_bytes(instance));
    }
}

fn instance_bytes(instance: &Instance) -> usize {
    let attributes = instance.attributes().iter();
    let attributes: usize = attributes
        .map(|(k, v)| k.len() + v.len() + 2 * TEXT_BYTES)
        .sum();
    let texts = instance.tags().iter().chain(instance.layouts());
    let texts: usize = texts.map(|text| text.len() + TEXT_BYTES).sum();
    let names = instance.id().len() + instance.address().len();
    INSTANCE_BYTES + names + attributes + texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Registration;

    fn instance(filling: usize) -> Instance {
        let registration = Registration::new("web", 1).unwrap().host("h").unwrap();
        let attributes = [("filling", "x".repeat(filling))];
        registration.attributes(attributes).unwrap().instance(1)
    }

    #[test]
    fn count_and_bytes_are_limited_and_removed_instances_make_room() {
        let service = ServiceName::new("web").unwrap();
        let mut limit = ViewLimit::new(3);
        limit.max_bytes = 3 * instance_bytes(&instance(1000));
        let add = |limit: &mut ViewLimit, count| {
            let added = limit.add(&service, &instance(1000), count);
            added.map_err(|error| error.to_string())
        };
        for count in 1..=3 {
            add(&mut limit, count).unwrap();
        }
        assert!(
            add(&mut limit, 4)
                .unwrap_err()
                .contains("more than 3 instances")
        );
        // The refused one was counted, too.
        limit.remove(&instance(1000));
        limit.remove(&instance(1000));
        add(&mut limit, 3).unwrap();
        let text = add(&mut limit, 3).unwrap_err();
        assert!(text.contains("bytes, the limit for one service"), "{text}");
    }
}
