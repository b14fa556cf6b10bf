// A part of discover.hpp, which includes it: the contents of a set at one moment.

#ifndef DISCOVER_SNAPSHOT_HPP
#define DISCOVER_SNAPSHOT_HPP

#include <discover_base.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace discover {

/// An instance that went offline.
struct offline_instance {
    /// Its last known state.
    discover::instance instance;
    /// When the client noticed that it went offline.
    std::chrono::system_clock::time_point at;
    /// How the client noticed it: one of DISCOVER_OFFLINE_REASON_...
    std::int32_t reason;
};

/// The contents of a set at one moment: a range of the instances online, oldest first. It is immutable and stays
/// valid after the client is closed.
class snapshot {
public:
    /// Takes ownership of a C object.
    explicit snapshot(discover_snapshot *owned) : handle_(owned, discover_snapshot_free) {}

    /// A minimal iterator for range-based for loops.
    class iterator {
    public:
        /// The position at an index of a snapshot.
        iterator(const discover_snapshot *snapshot, std::size_t index) : snapshot_(snapshot), index_(index) {}
        /// The instance at the position.
        instance operator*() const { return instance(discover_snapshot_online(snapshot_, index_)); }
        /// Moves to the next instance.
        iterator &operator++() { return ++index_, *this; }
        /// Compares positions in the same snapshot.
        bool operator!=(const iterator &other) const { return index_ != other.index_; }

    private:
        const discover_snapshot *snapshot_;
        std::size_t index_;
    };

    /// The number of instances online.
    std::size_t size() const { return discover_snapshot_online_count(get()); }
    /// Returns true if no instance is online.
    bool empty() const { return size() == 0; }
    /// The first instance online.
    iterator begin() const { return {get(), 0}; }
    /// The end of the range.
    iterator end() const { return {get(), size()}; }

    /// The instances online, oldest first.
    std::vector<instance> online() const {
        std::vector<instance> all;
        for (instance online : *this) all.push_back(std::move(online));
        return all;
    }

    /// The instances that recently went offline, in the order of going offline.
    std::vector<offline_instance> offline() const {
        std::vector<offline_instance> all;
        for (std::size_t i = 0; i < discover_snapshot_offline_count(get()); i++) {
            all.push_back({instance(discover_snapshot_offline(get(), i)),
                           detail::time(discover_snapshot_offline_at_ms(get(), i)),
                           discover_snapshot_offline_reason(get(), i)});
        }
        return all;
    }

    /// The leader, which is the oldest instance online.
    std::optional<instance> leader() const {
        return detail::maybe<instance>(discover_snapshot_leader(get()));
    }

    /// The version of the set, which grows with each change.
    std::uint64_t version() const { return discover_snapshot_version(get()); }
    /// The registry's own revision, which never decreases within an epoch; 0 if there is none.
    std::uint64_t revision() const { return discover_snapshot_revision(get()); }
    /// The epoch of the registry, which grows when its history changes, for example after a restore.
    std::uint64_t epoch() const { return discover_snapshot_epoch(get()); }
    /// The number of malformed records, which are left out of the set.
    std::size_t invalid_count() const { return discover_snapshot_invalid_count(get()); }
    /// Returns true if the set has been received at least once.
    bool is_ready() const { return discover_snapshot_is_ready(get()); }
    /// Returns true if the snapshot matches the registry, as far as the client knows.
    bool is_current() const { return discover_snapshot_is_current(get()); }

    /// Why the connection to the registry is lost; nothing if it is not lost.
    std::optional<error> fault() const {
        const detail::error_handle owned(discover_snapshot_take_fault(get()));
        return detail::maybe<error>(owned.get());
    }
    /// Since when the connection to the registry is lost.
    std::chrono::system_clock::time_point fault_since() const {
        return detail::time(discover_snapshot_fault_since_ms(get()));
    }

    /// The C object, which stays owned by this object.
    const discover_snapshot *get() const noexcept { return handle_.get(); }

private:
    std::shared_ptr<discover_snapshot> handle_;
};

}  // namespace discover

#endif  // DISCOVER_SNAPSHOT_HPP
