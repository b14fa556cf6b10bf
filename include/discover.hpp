// libdiscover for C++17: discover.h with destructors, exceptions and std::function, and nothing else.
//
//     discover::client client{"local://"};
//     discover::lease lease = client.register_instance(discover::registration{"web", 8080});
//     for (const discover::instance &instance : client.services("web").wait(1, 2s)) {
//         std::cout << instance.address() << '\n';
//     }
//
// What a call means is said in discover.h, at the function of the same name. Failures are thrown as
// discover::error. Everything but an event can be moved; sets, snapshots and instances can be copied,
// which copies a reference.

#ifndef DISCOVER_HPP
#define DISCOVER_HPP

#include <discover_base.hpp>
#include <discover_descriptor.hpp>
#include <discover_host.hpp>

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

/// An instance that went: as it was last seen, when that was noticed, and how (DISCOVER_DEPARTURE_...).
struct departed {
    discover::instance instance;
    std::chrono::system_clock::time_point since;
    std::int32_t departure;
};

/// The whole truth of one moment. A range of those online, oldest first.
class snapshot {
public:
    /// Takes what is owned.
    explicit snapshot(discover_snapshot *owned) : handle_(owned, discover_snapshot_free) {}

    /// As much of an iterator as a range-based for needs.
    class iterator {
    public:
        iterator(const discover_snapshot *of, std::size_t at) : of_(of), at_(at) {}
        instance operator*() const { return instance(discover_snapshot_online(of_, at_)); }
        iterator &operator++() { return ++at_, *this; }
        bool operator!=(const iterator &other) const { return at_ != other.at_; }

    private:
        const discover_snapshot *of_;
        std::size_t at_;
    };

    std::size_t size() const { return discover_snapshot_online_count(get()); }
    bool empty() const { return size() == 0; }
    iterator begin() const { return {get(), 0}; }
    iterator end() const { return {get(), size()}; }

    std::vector<instance> online() const {
        std::vector<instance> all;
        for (instance one : *this) all.push_back(std::move(one));
        return all;
    }

    std::vector<departed> offline() const {
        std::vector<departed> all;
        for (std::size_t i = 0; i < discover_snapshot_offline_count(get()); i++) {
            all.push_back({instance(discover_snapshot_offline(get(), i)),
                           detail::time(discover_snapshot_offline_since_ms(get(), i)),
                           discover_snapshot_offline_departure(get(), i)});
        }
        return all;
    }

    std::optional<instance> leader() const {
        return detail::maybe<instance>(discover_snapshot_leader(get()));
    }

    std::uint64_t version() const { return discover_snapshot_version(get()); }
    std::uint64_t revision() const { return discover_snapshot_revision(get()); }
    std::uint64_t epoch() const { return discover_snapshot_epoch(get()); }
    std::size_t invalid_count() const { return discover_snapshot_invalid_count(get()); }
    bool is_ready() const { return discover_snapshot_is_ready(get()); }
    bool is_current() const { return discover_snapshot_is_current(get()); }

    /// Why the registry is lost, if it is.
    std::optional<error> fault() const {
        const detail::error_handle owned(discover_snapshot_take_fault(get()));
        return detail::maybe<error>(owned.get());
    }
    std::chrono::system_clock::time_point fault_since() const {
        return detail::time(discover_snapshot_fault_since_ms(get()));
    }

    const discover_snapshot *get() const noexcept { return handle_.get(); }

private:
    std::shared_ptr<discover_snapshot> handle_;
};

/// One piece of news. It is good only until the callback returns; its instance, being a copy, longer.
class event {
public:
    explicit event(const discover_event *borrowed) : borrowed_(borrowed) {}
    event(const event &) = delete;
    event &operator=(const event &) = delete;

    /// One of DISCOVER_EVENT_...
    std::int32_t kind() const { return discover_event_kind(borrowed_); }
    std::string_view kind_name() const { return discover_event_kind_name(kind()); }

    std::optional<discover::instance> instance() const {
        return detail::maybe<discover::instance>(discover_event_instance(borrowed_));
    }
    std::optional<discover::error> error() const {
        return detail::maybe<discover::error>(discover_event_error(borrowed_));
    }

private:
    const discover_event *borrowed_;
};

/// How a connection or a registration fares.
struct condition {
    /// One of DISCOVER_CONNECTION_... or DISCOVER_STANDING_...
    std::int32_t state;
    /// Why it is a bad one, else nothing.
    std::optional<error> reason;
};

/// A callback that is told the events of a set, or each condition of a connection or a registration,
/// until this is destroyed.
class subscription {
public:
    using callback = std::function<void(const event &)>;
    using condition_callback = std::function<void(const condition &)>;

    /// Ends it at once; from another thread, one call may be under way.
    void cancel() { handle_.reset(); }

    /// The first exception that the callback let out, if it did. The news go on after it.
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

    template <typename News>
    struct listener : state {
        explicit listener(std::function<void(const News &)> c) : tell(std::move(c)) {}
        std::function<void(const News &)> tell;
    };

    template <typename News>
    using shared = std::shared_ptr<listener<News>>;

    subscription(const discover_set *set, callback on_event) {
        begin<event>(discover_set_subscribe, set, hear_event, std::move(on_event));
    }

    /// `subscribe` is the function of the C library for what `of` is.
    template <typename Subscribe, typename Of>
    subscription(Subscribe subscribe, const Of *of, condition_callback on_state) {
        begin<condition>(subscribe, of, hear_state, std::move(on_state));
    }

    template <typename News, typename Subscribe, typename Of, typename Hear>
    void begin(Subscribe subscribe, const Of *of, Hear hear, std::function<void(const News &)> tell) {
        auto own = std::make_shared<listener<News>>(std::move(tell));
        // The library keeps a share of its own, until its last call is over.
        auto share = std::make_unique<shared<News>>(own);
        handle_.reset(detail::make<discover_subscription>([&](auto out, auto e) {
            return subscribe(of, hear, share.release(), destroy<News>, out, e);
        }));
        state_ = std::move(own);
    }

    static void hear_event(const discover_event *borrowed, void *user_data) noexcept {
        guarded<event>(user_data, [&](const auto &tell) { tell(event(borrowed)); });
    }

    static void hear_state(std::int32_t state, const discover_error *reason, void *user_data) noexcept {
        guarded<condition>(user_data, [&](const auto &tell) {
            tell(condition{state, detail::maybe<error>(reason)});
        });
    }

    template <typename News, typename Call>
    static void guarded(void *user_data, Call call) noexcept {
        listener<News> &own = **static_cast<shared<News> *>(user_data);
        try {
            call(own.tell);
        } catch (...) {
            std::lock_guard<std::mutex> locked(own.lock);
            if (!own.failure) own.failure = std::current_exception();
        }
    }

    template <typename News>
    static void destroy(void *user_data) noexcept {
        delete static_cast<shared<News> *>(user_data);
    }

    std::shared_ptr<state> state_;
    detail::handle<discover_subscription, discover_subscription_cancel> handle_;
};

/// The live set of the instances of one service, or of those that match a filter.
class set {
public:
    /// Takes what is owned.
    explicit set(discover_set *owned) : handle_(owned, discover_set_release) {}

    std::string_view service() const { return discover_set_service(get()); }
    /// One of DISCOVER_STATE_...
    std::int32_t state() const { return discover_set_state(get()); }

    discover::snapshot snapshot() const {
        return discover::snapshot(discover_set_take_snapshot(get()));
    }
    std::vector<instance> online() const { return snapshot().online(); }
    std::vector<departed> offline() const { return snapshot().offline(); }
    std::optional<instance> leader() const { return snapshot().leader(); }

    /// Those online as hosts: with URLs, ports by scheme, and shards.
    discover::service hosts() const { return discover::service(discover_set_hosts(get())); }

    set filter(const attributes &wanted, const std::vector<std::string> &tags = {}) const {
        detail::pairs all(wanted);
        std::vector<const char *> raw_tags;
        for (const std::string &tag : tags) raw_tags.push_back(tag.c_str());
        return set(detail::make<discover_set>([&](auto out, auto e) {
            return discover_set_filter(get(), all.names.data(), all.values.data(), all.names.size(),
                                       raw_tags.data(), raw_tags.size(), out, e);
        }));
    }

    /// Waits until at least count are online, and gives the set as it then was.
    discover::snapshot wait(std::size_t count, timeout within = no_timeout) const {
        return discover::snapshot(detail::make<discover_snapshot>([&](auto out, auto e) {
            return discover_set_wait(get(), count, detail::milliseconds(within), out, e);
        }));
    }

    /// One of those online, or none.
    std::optional<instance> pick(const std::string &policy) const { return pick_by(policy, nullptr); }
    std::optional<instance> pick(const std::string &policy, const std::string &key) const {
        return pick_by(policy, key.c_str());
    }
    void done(const instance &picked) const { discover_set_done(get(), picked.get()); }

    /// Has each event handed to on_event, on the client's callback thread.
    [[nodiscard]] subscription subscribe(subscription::callback on_event) const {
        return subscription(get(), std::move(on_event));
    }

    const discover_set *get() const noexcept { return handle_.get(); }

private:
    std::optional<instance> pick_by(const std::string &policy, const char *key) const {
        const detail::handle<discover_instance, discover_instance_free> picked(
            detail::make<discover_instance>([&](auto out, auto e) {
                return discover_set_pick(get(), policy.c_str(), key, out, e);
            }));
        return detail::maybe<instance>(picked.get());
    }

    std::shared_ptr<discover_set> handle_;
};

/// What a program says of itself. The setters can be chained.
class registration {
public:
    registration(const std::string &service, std::int64_t port)
        : handle_(detail::make<discover_registration>([&](auto out, auto e) {
              return discover_registration_new(service.c_str(), port, out, e);
          })) {}

    registration &host(const std::string &h) { return change(discover_registration_set_host, h.c_str()); }
    registration &id(const std::string &i) { return change(discover_registration_set_id, i.c_str()); }
    registration &attribute(const std::string &name, const std::string &value) {
        return change(discover_registration_set_attribute, name.c_str(), value.c_str());
    }
    registration &tag(const std::string &t) { return change(discover_registration_add_tag, t.c_str()); }
    registration &ttl(timeout t) { return change(discover_registration_set_ttl_ms, detail::milliseconds(t)); }
    registration &manual_heartbeat() { return change(discover_registration_set_heartbeat_manual); }

    const discover_registration *get() const noexcept { return handle_.get(); }

private:
    template <typename Setter, typename... Arguments>
    registration &change(Setter setter, Arguments... arguments) {
        detail::check([&](auto e) { return setter(handle_.get(), arguments..., e); });
        return *this;
    }

    detail::handle<discover_registration, discover_registration_free> handle_;
};

/// A registration that is kept alive until this is destroyed, which unregisters without waiting.
class lease {
public:
    /// Takes what is owned.
    explicit lease(discover_lease *owned) : handle_(owned) {}

    void heartbeat(timeout within = no_timeout) {
        const auto ms = detail::milliseconds(within);
        detail::check([&](auto e) { return discover_lease_heartbeat(get(), ms, e); });
    }

    /// Replaces all attributes.
    void update(const attributes &changed, timeout within = no_timeout) {
        detail::pairs all(changed);
        detail::check([&](auto e) {
            return discover_lease_update(get(), all.names.data(), all.values.data(), all.names.size(),
                                         detail::milliseconds(within), e);
        });
    }

    void unregister(timeout within = no_timeout) {
        const auto ms = detail::milliseconds(within);
        detail::check([&](auto e) { return discover_lease_unregister(get(), ms, e); });
    }

    std::string_view service() const { return discover_lease_service(get()); }
    std::string_view id() const { return discover_lease_id(get()); }
    std::string_view address() const { return discover_lease_address(get()); }
    /// What others see; nothing of when it came online.
    discover::attributes attributes() const {
        const detail::handle<discover_instance, discover_instance_free> now(
            discover_lease_instance(get()));
        return instance(now.get()).attributes();
    }

    /// One of DISCOVER_STANDING_...
    std::int32_t standing() const { return discover_lease_standing(get(), nullptr); }
    /// Why it is lapsed or replaced, if it is.
    std::optional<error> reason() const {
        discover_error *raw = nullptr;
        discover_lease_standing(get(), &raw);
        const detail::error_handle owned(raw);
        return detail::maybe<error>(raw);
    }

    /// Has on_state told how it stands, now and at each change, on the client's callback thread; and when
    /// other attributes were taken over.
    [[nodiscard]] subscription on_standing(subscription::condition_callback on_state) const {
        return subscription(discover_lease_on_standing, get(), std::move(on_state));
    }

    const discover_lease *get() const noexcept { return handle_.get(); }

private:
    detail::handle<discover_lease, discover_lease_release> handle_;
};

/// A connection to a registry, closed when this is destroyed. That must not happen inside one of its
/// own callbacks: it cannot be closed there, and would stay open until the process ends.
class client {
public:
    /// How long the destructor may take for each step of closing.
    static constexpr timeout patience{5000};

    /// Opens the registry named by DISCOVER_URL, else local://.
    client() : handle_(open(nullptr)) {}
    explicit client(const std::string &url) : handle_(open(url.c_str())) {}
    client(client &&other) noexcept : handle_(other.handle_.exchange(nullptr)) {}
    client &operator=(client &&other) noexcept {
        return end(handle_.exchange(other.handle_.exchange(nullptr))), *this;
    }
    ~client() { end(handle_); }

    std::string_view url() const { return discover_client_url(get()); }

    lease register_instance(const registration &r, timeout within = no_timeout) const {
        return lease(detail::make<discover_lease>([&](auto out, auto e) {
            return discover_client_register(get(), r.get(), detail::milliseconds(within), out, e);
        }));
    }

    set services(const std::string &service) const {
        return set(detail::make<discover_set>([&](auto out, auto e) {
            return discover_client_services(get(), service.c_str(), out, e);
        }));
    }

    /// One of DISCOVER_CONNECTION_..., and why it is a bad one.
    condition connection() const {
        discover_error *raw = nullptr;
        const std::int32_t state = discover_client_connection(get(), &raw);
        const detail::error_handle owned(raw);
        if (state == 0) throw error(raw);
        return {state, detail::maybe<error>(raw)};
    }

    /// Has on_state told how the connection fares, now and at each change, on the callback thread.
    [[nodiscard]] subscription on_connection(subscription::condition_callback on_state) const {
        return subscription(discover_client_on_connection, get(), std::move(on_state));
    }

    /// The counters by name; discover_metric_name() says what each is.
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

    /// Closes it now, and says how that went. Thrown with DISCOVER_ERR_BUSY, inside one of its own
    /// callbacks, it is as open as before. Closing again does nothing; of several threads, one does it.
    void close(timeout within = patience) {
        const auto ms = detail::milliseconds(within);
        discover_client *raw = handle_.exchange(nullptr);
        try {
            detail::check([&](auto e) { return discover_client_close(raw, ms, e); });
        } catch (const error &e) {
            if (e.status() == DISCOVER_ERR_BUSY) handle_ = raw;
            throw;
        }
    }

    const discover_client *get() const noexcept { return handle_; }

private:
    static discover_client *open(const char *url) {
        return detail::make<discover_client>(
            [&](auto out, auto e) { return discover_client_open(url, out, e); });
    }

    static void end(discover_client *owned) noexcept {
        discover_client_close(owned, detail::milliseconds(patience), nullptr);
    }

    std::atomic<discover_client *> handle_;
};

}  // namespace discover

#endif  // DISCOVER_HPP
