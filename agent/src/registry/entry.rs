//! One registration: its owner, its health and its deadline. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::net::quota::QuotaPermit;
use crate::registry::state::Health;

/// A point in time, as the time since the start of the agent.
pub type Time = Duration;

/// Source of the evidence that an instance is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LivenessSource {
    /// Heartbeats of the owner. Without them the registration expires after its TTL.
    #[serde(rename = "Beats")]
    Heartbeats,
    /// Heartbeats of the owner that report its health. Without them the instance becomes critical, and the
    /// registration expires after being critical for this long.
    #[serde(rename = "Reports")]
    HealthReports(Duration),
    /// Checks that the agent makes. The registration expires after being critical for this long.
    #[serde(rename = "Check")]
    AgentCheck(Duration),
}

/// Deadline of a registration that does not expire.
pub const NEVER: Time = Time::MAX;

/// One registration. `P` publishes it in the store.
#[derive(Debug)]
pub struct TableEntry<P> {
    /// Number that identifies the registration. Its owner sends it with each request.
    pub grant: u64,
    /// Name of the client that registered it; empty if it sent none.
    pub owner: String,
    /// Longest time between two heartbeats.
    pub ttl: Duration,
    /// When the registration becomes critical or expires, unless a heartbeat or check result extends the
    /// deadline.
    pub deadline: Time,
    /// Source of the evidence that the instance is alive.
    pub liveness: LivenessSource,
    /// Last reported health.
    pub health: Health,
    /// When the health last changed.
    pub health_since: Time,
    /// Text of the last check result.
    pub note: String,
    /// Counts the registration for the client that made it. `None` for those of the configuration file.
    pub permit: Option<QuotaPermit>,
    /// Publishes the instance in the store.
    pub published: P,
}

impl<P> TableEntry<P> {
    /// Returns the health to send with a heartbeat that leaves the health unchanged.
    pub fn reported_health(&self) -> Option<Health> {
        matches!(self.liveness, LivenessSource::HealthReports(_)).then_some(self.health)
    }

    /// Sets the start time.
    pub fn started_at(mut self, now: Time) -> TableEntry<P> {
        self.health_since = now;
        self.deadline = self.next_deadline(now);
        self
    }

    /// Returns the deadline after a heartbeat or check result.
    pub fn next_deadline(&self, now: Time) -> Time {
        match (self.liveness, self.health) {
            (
                LivenessSource::AgentCheck(critical_ttl)
                | LivenessSource::HealthReports(critical_ttl),
                Health::Critical,
            ) => now.saturating_add(critical_ttl),
            (LivenessSource::AgentCheck(_), _) => NEVER,
            (LivenessSource::Heartbeats | LivenessSource::HealthReports(_), _) => {
                now.saturating_add(self.ttl)
            }
        }
    }

    /// Sets the health and the text of the last check result.
    pub fn set(&mut self, health: Health, note: String, now: Time) {
        if self.health != health {
            (self.health, self.health_since) = (health, now);
            self.deadline = self.next_deadline(now);
        }
        self.note = note;
    }
}
