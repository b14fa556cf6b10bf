// libdiscover for C++17: wraps discover.h with destructors, exceptions and std::function, and adds nothing else.
//
//     discover::client client{"local://"};
//     discover::lease lease = client.register_instance(discover::registration{"web", 8080});
//     for (const discover::instance &instance : client.services("web").wait(1, 2s)) {
//         std::cout << instance.address() << '\n';
//     }
//
// discover.h documents each call at the C function of the same name: its errors, threads and callbacks. Failures
// are thrown as discover::error. All objects except events can be moved. Sets, snapshots and instances can be
// copied, which copies a reference. Passing NULL where an object is owned or borrowed is not allowed.

#ifndef DISCOVER_HPP
#define DISCOVER_HPP

#include <discover_base.hpp>
#include <discover_descriptor.hpp>
#include <discover_scalingo.hpp>
#include <discover_snapshot.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace discover {

/// One change of a set. The event is valid until the callback returns; its instance is a copy and stays valid.
class event {
public:
    /// Wraps an event of the C library.
    explicit event(const discover_event *borrowed) : borrowed_(borrowed) {}
    event(const event &) = delete;
    event &operator=(const event &) = delete;

    /// The kind: one of DISCOVER_EVENT_...
    std::int32_t kind() const { return discover_event_kind(borrowed_); }
    /// The name of the kind, for example "up".
    std::string_view kind_name() const { return discover_event_kind_name(kind()); }

    /// The instance of an up, update, down or leader event.
    std::optional<discover::instance> instance() const {
        return detail::maybe<discover::instance>(discover_event_instance(borrowed_));
    }
    /// The cause of a stale event.
    std::optional<discover::error> error() const {
        return detail::maybe<discover::error>(discover_event_error(borrowed_));
    }

private:
    const discover_event *borrowed_;
};

/// The state of the connection to the registry.
struct connection_status {
    /// One of DISCOVER_CONNECTION_...
    std::int32_t state;
    /// Why the connection is suspended or lost, else nothing.
    std::optional<discover::error> error;
};

/// The standing of a registration.
struct lease_status {
    /// One of DISCOVER_STANDING_...
    std::int32_t standing;
    /// Why the registration is lapsed or replaced, else nothing.
    std::optional<discover::error> error;
};

/// A callback subscribed to the events of a set, or to the status of a connection or a registration. Destroying
/// the subscription ends it.
class subscription {
public:
    /// A callback for the events of a set.
    using callback = std::function<void(const event &)>;
    /// A callback for the status of a connection.
    using connection_callback = std::function<void(const connection_status &)>;
    /// A callback for the status of a registration.
    using lease_callback = std::function<void(const lease_status &)>;

    /// Ends the subscription at once. When called from another thread, one call may still be running.
    void cancel() { handle_.reset(); }

    /// The first exception that the callback threw, if any. Later events are still delivered.
    std::exception_ptr failure() const {
        std::lock_guard<std::mutex> locked(state_->lock);
        return state_->failure;
    }

private:
    friend class set;
    friend class lease;
    friend class client;

    struct state {
        std::mutex lock;
        std::exception_ptr failure;
    };

    template <typename Event>
    struct receiver : state {
        explicit receiver(std::function<void(const Event &)> c) : on_event(std::move(c)) {}
        std::function<void(const Event &)> on_event;
    };

    template <typename Event>
    using shared = std::shared_ptr<receiver<Event>>;

    subscription(const discover_set *set, callback on_event) {
        begin<event>(discover_set_subscribe, set, deliver_event, std::move(on_event));
    }

    subscription(const discover_client *client, connection_callback on_state) {
        begin<connection_status>(discover_client_on_connection, client, deliver_status<connection_status>,
                                 std::move(on_state));
    }

    subscription(const discover_lease *lease, lease_callback on_state) {
        begin<lease_status>(discover_lease_on_standing, lease, deliver_status<lease_status>,
                            std::move(on_state));
    }

    /// Subscribes with the C function for the type of `subject`.
    template <typename Event, typename Subscribe, typename Subject, typename Deliver>
    void begin(Subscribe subscribe, const Subject *subject, Deliver deliver,
               std::function<void(const Event &)> on_event) {
        auto own = std::make_shared<receiver<Event>>(std::move(on_event));
        // The library has its own reference until its last call has returned.
        auto reference = std::make_unique<shared<Event>>(own);
        handle_.reset(detail::make<discover_subscription>([&](auto out, auto e) {
            return subscribe(subject, deliver, reference.release(), destroy<Event>, out, e);
        }));
        state_ = std::move(own);
    }

    static void deliver_event(const discover_event *borrowed, void *user_data) noexcept {
        guarded<event>(user_data, [&](const auto &on_event) { on_event(event(borrowed)); });
    }

    template <typename Status>
    static void deliver_status(std::int32_t state, const discover_error *reason, void *user_data) noexcept {
        guarded<Status>(user_data, [&](const auto &on_event) {
            on_event(Status{state, detail::maybe<error>(reason)});
        });
    }

    /// Calls the callback and keeps its first exception.
    template <typename Event, typename Call>
    static void guarded(void *user_data, Call call) noexcept {
        receiver<Event> &own = **static_cast<shared<Event> *>(user_data);
        try {
            call(own.on_event);
        } catch (...) {
            std::lock_guard<std::mutex> locked(own.lock);
            if (!own.failure) own.failure = std::current_exception();
        }
    }

    template <typename Event>
    static void destroy(void *user_data) noexcept {
        delete static_cast<shared<Event> *>(user_data);
    }

    std::shared_ptr<state> state_;
    detail::handle<discover_subscription, discover_subscription_cancel> handle_;
};

/// The live set of the instances of one service, optionally restricted by a filter. Reading it uses memory only
/// and never blocks. Copies share the set. In a forked child, reads throw DISCOVER_ERR_FORKED.
class set {
public:
    /// Takes ownership of a C object.
    explicit set(discover_set *owned) : handle_(owned, discover_set_release) {}

    /// The service name.
    std::string_view service() const { return discover_set_service(get()); }
    /// The state of the set: one of DISCOVER_STATE_...
    std::int32_t state() const {
        const std::int32_t current = discover_set_state(get());
        if (current == 0) throw_unreadable();
        return current;
    }

    /// A snapshot of the current contents. No data is copied. Throws DISCOVER_ERR_FORKED in a forked child.
    discover::snapshot snapshot() const {
        discover_snapshot *current = discover_set_take_snapshot(get());
        if (!current) throw_unreadable();
        return discover::snapshot(current);
    }
    /// The instances online, oldest first.
    std::vector<instance> online() const { return snapshot().online(); }
    /// The instances that recently went offline.
    std::vector<offline_instance> offline() const { return snapshot().offline(); }
    /// The leader, which is the oldest instance online.
    std::optional<instance> leader() const { return snapshot().leader(); }

    /// The set of the instances that have all given attributes and tags. Filters are combined.
    set filter(const attributes &wanted, const std::vector<std::string> &tags = {}) const {
        detail::pairs all(wanted);
        std::vector<const char *> raw_tags;
        for (const std::string &tag : tags) raw_tags.push_back(tag.c_str());
        return set(detail::make<discover_set>([&](auto out, auto e) {
            return discover_set_filter(get(), all.names.data(), all.values.data(), all.names.size(),
                                       raw_tags.data(), raw_tags.size(), out, e);
        }));
    }

    /// Blocks until at least count instances are online and returns a snapshot; with count 0 until the first data
    /// is received. Throws DISCOVER_ERR_TIMEOUT.
    discover::snapshot wait(std::size_t count, duration timeout = no_timeout) const {
        return discover::snapshot(detail::make<discover_snapshot>([&](auto out, auto e) {
            return discover_set_wait(get(), count, detail::milliseconds(timeout), out, e);
        }));
    }

    /// Picks an instance by a policy of discover_set_pick(); nothing if there is no candidate.
    std::optional<instance> pick(const std::string &policy) const { return pick_by(policy, nullptr); }
    /// Picks an instance by the policy "hash" and a key.
    std::optional<instance> pick(const std::string &policy, const std::string &key) const {
        return pick_by(policy, key.c_str());
    }
    /// Reports that the call to an instance picked by "p2c" is over.
    void done(const instance &picked) const { discover_set_done(get(), picked.get()); }

    /// Subscribes a callback, which runs on the client's callback thread.
    [[nodiscard]] subscription subscribe(subscription::callback on_event) const {
        return subscription(get(), std::move(on_event));
    }

    /// The C object, which stays owned by this object.
    const discover_set *get() const noexcept { return handle_.get(); }

private:
    /// Throws the reason why reads return nothing; those of the C library report no error.
    void throw_unreadable() const { wait(0, duration(0)); }

    std::optional<instance> pick_by(const std::string &policy, const char *key) const {
        const detail::handle<discover_instance, discover_instance_free> picked(
            detail::make<discover_instance>([&](auto out, auto e) {
                return discover_set_pick(get(), policy.c_str(), key, out, e);
            }));
        return detail::maybe<instance>(picked.get());
    }

    std::shared_ptr<discover_set> handle_;
};

/// The instance that a program wants to register. Setters can be chained; one that throws changes nothing.
class registration {
public:
    /// Creates a registration for a service and a port, 1 to 65535.
    registration(const std::string &service, std::int64_t port)
        : handle_(detail::make<discover_registration>([&](auto out, auto e) {
              return discover_registration_new(service.c_str(), port, out, e);
          })) {}

    /// Sets the host name or IP address; by default this machine's own address.
    registration &host(const std::string &h) { return change(discover_registration_set_host, h.c_str()); }
    /// Sets the id; by default host:port.
    registration &id(const std::string &i) { return change(discover_registration_set_id, i.c_str()); }
    /// Sets one attribute.
    registration &attribute(const std::string &name, const std::string &value) {
        return change(discover_registration_set_attribute, name.c_str(), value.c_str());
    }
    /// Appends a tag.
    registration &tag(const std::string &t) { return change(discover_registration_add_tag, t.c_str()); }
    /// Sets the time to live, 1 second to 24 hours; by default the URL's ttl, 10 seconds.
    registration &ttl(duration t) { return change(discover_registration_set_ttl_ms, detail::milliseconds(t)); }
    /// Switches to manual heartbeats: the program calls lease::heartbeat() within each TTL.
    registration &manual_heartbeat() { return change(discover_registration_set_heartbeat_manual); }

    /// The C object, which stays owned by this object.
    const discover_registration *get() const noexcept { return handle_.get(); }

private:
    template <typename Setter, typename... Arguments>
    registration &change(Setter setter, Arguments... arguments) {
        detail::check([&](auto e) { return setter(handle_.get(), arguments..., e); });
        return *this;
    }

    detail::handle<discover_registration, discover_registration_free> handle_;
};

/// A registration that the library keeps alive. Destroying the lease unregisters the instance in the background.
class lease {
public:
    /// Takes ownership of a C object.
    explicit lease(discover_lease *owned) : handle_(owned) {}

    /// Sends a heartbeat now; a lapsed instance is restored.
    void heartbeat(duration timeout = no_timeout) {
        const auto ms = detail::milliseconds(timeout);
        detail::check([&](auto e) { return discover_lease_heartbeat(get(), ms, e); });
    }

    /// Replaces all attributes of the instance.
    void update(const discover::attributes &changed, duration timeout = no_timeout) {
        detail::pairs all(changed);
        detail::check([&](auto e) {
            return discover_lease_update(get(), all.names.data(), all.values.data(), all.names.size(),
                                         detail::milliseconds(timeout), e);
        });
    }

    /// Unregisters the instance; unregistering it again succeeds.
    void unregister(duration timeout = no_timeout) {
        const auto ms = detail::milliseconds(timeout);
        detail::check([&](auto e) { return discover_lease_unregister(get(), ms, e); });
    }

    /// The service name.
    std::string_view service() const { return discover_lease_service(get()); }
    /// The id of the registered instance.
    std::string_view id() const { return discover_lease_id(get()); }
    /// The address of the registered instance as host:port.
    std::string_view address() const { return discover_lease_address(get()); }
    /// The attributes as other clients see them, including attributes that all registrations share.
    discover::attributes attributes() const {
        const detail::handle<discover_instance, discover_instance_free> now(
            discover_lease_instance(get()));
        return instance(now.get()).attributes();
    }

    /// The current standing: one of DISCOVER_STANDING_...
    std::int32_t standing() const { return discover_lease_standing(get(), nullptr); }
    /// Why the registration is lapsed or replaced, else nothing.
    std::optional<discover::error> error() const {
        discover_error *raw = nullptr;
        discover_lease_standing(get(), &raw);
        const detail::error_handle owned(raw);
        return detail::maybe<discover::error>(raw);
    }

    /// Subscribes a callback to the standing: now, at each change, and when the lease adopts shared attributes. It
    /// runs on the client's callback thread.
    [[nodiscard]] subscription on_standing(subscription::lease_callback on_state) const {
        return subscription(get(), std::move(on_state));
    }

    /// The C object, which stays owned by this object.
    const discover_lease *get() const noexcept { return handle_.get(); }

private:
    detail::handle<discover_lease, discover_lease_release> handle_;
};

/// A connection to a registry. Destroying the client closes it. Do not destroy it inside one of its own callbacks:
/// closing fails there, and the connection would stay open until the process exits.
class client {
public:
    /// How long the destructor may take for each step of closing.
    static constexpr duration close_timeout{5000};

    /// Opens the registry of the environment variable DISCOVER_URL, else local://.
    client() : handle_(open(nullptr)) {}
    /// Opens the registry at a URL, for example "etcd://host:2379".
    explicit client(const std::string &url) : handle_(open(url.c_str())) {}
    /// Takes the connection of another client.
    client(client &&other) noexcept : handle_(other.handle_.exchange(nullptr)) {}
    /// Closes this client and takes the connection of another one.
    client &operator=(client &&other) noexcept {
        return end(handle_.exchange(other.handle_.exchange(nullptr))), *this;
    }
    /// Closes the client and ignores errors.
    ~client() { end(handle_); }

    /// The URL of the registry, with its secrets masked.
    std::string_view url() const { return discover_client_url(get()); }

    /// Registers an instance and keeps it alive until the lease is destroyed.
    lease register_instance(const registration &r, duration timeout = no_timeout) const {
        return lease(detail::make<discover_lease>([&](auto out, auto e) {
            return discover_client_register(get(), r.get(), detail::milliseconds(timeout), out, e);
        }));
    }

    /// Opens the live set of the instances of a service. Does not block.
    set services(const std::string &service) const {
        return set(detail::make<discover_set>([&](auto out, auto e) {
            return discover_client_services(get(), service.c_str(), out, e);
        }));
    }

    /// The current state of the connection.
    connection_status connection() const {
        discover_error *raw = nullptr;
        const std::int32_t state = discover_client_connection(get(), &raw);
        const detail::error_handle owned(raw);
        if (state == 0) throw error(raw);
        return {state, detail::maybe<error>(raw)};
    }

    /// Subscribes a callback to the state of the connection: now and at each change. It runs on the callback
    /// thread.
    [[nodiscard]] subscription on_connection(subscription::connection_callback on_state) const {
        return subscription(get(), std::move(on_state));
    }

    /// The counters by name; discover_metric_name() documents them.
    std::map<std::string, std::uint64_t> metrics() const {
        std::map<std::string, std::uint64_t> all;
        for (std::size_t i = 0; i < discover_metric_count(); i++) {
            const char *name = discover_metric_name(i);
            detail::check([&](auto e) {
                return discover_client_metric(get(), name, &all[name], e);
            });
        }
        return all;
    }

    /// Closes the client. Inside one of its own callbacks it throws DISCOVER_ERR_BUSY, and the client stays open.
    /// Closing again does nothing; of several threads one closes it.
    void close(duration timeout = close_timeout) {
        const auto ms = detail::milliseconds(timeout);
        discover_client *raw = handle_.exchange(nullptr);
        try {
            detail::check([&](auto e) { return discover_client_close(raw, ms, e); });
        } catch (const error &e) {
            if (e.status() == DISCOVER_ERR_BUSY) handle_ = raw;
            throw;
        }
    }

    /// The C object, which stays owned by this object.
    const discover_client *get() const noexcept { return handle_; }

private:
    static discover_client *open(const char *url) {
        return detail::make<discover_client>(
            [&](auto out, auto e) { return discover_client_open(url, out, e); });
    }

    static void end(discover_client *owned) noexcept {
        discover_client_close(owned, detail::milliseconds(close_timeout), nullptr);
    }

    std::atomic<discover_client *> handle_;
};

inline scalingo::service scalingo::service::from_set(const discover::set &set) {
    discover_scalingo_service *converted = discover_scalingo_service_from_set(set.get());
    if (!converted) set.snapshot();  // Throws the reason.
    return service(converted);
}

}  // namespace discover

#endif  // DISCOVER_HPP
