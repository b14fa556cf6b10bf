// What discover.hpp adds: destructors, exceptions, ranges, std::function.
#include <discover.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <thread>

using namespace std::chrono_literals;

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            std::cerr << __FILE__ << ':' << __LINE__ << ": check failed: " #condition "\n"; \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (false)

static constexpr auto wait_timeout = 60s;

// Counts openings from any thread, and waits for a number of them.
class gate {
public:
    void open() {
        std::lock_guard<std::mutex> locked(lock_);
        opened_++;
        changed_.notify_all();
    }
    bool await(int times) {
        std::unique_lock<std::mutex> locked(lock_);
        return changed_.wait_for(locked, wait_timeout, [&] { return opened_ >= times; });
    }

private:
    std::mutex lock_;
    std::condition_variable changed_;
    int opened_ = 0;
};

template <typename Call>
static discover_status status_of(Call call) {
    try {
        call();
        return DISCOVER_OK;
    } catch (const discover::error &error) {
        CHECK(std::string_view(error.what()).size() > 0);
        CHECK(error.is_retriable() == discover_status_is_retriable(error.status()));
        return error.status();
    }
}

static discover::registration new_registration(std::int64_t port) {
    discover::registration registration{"web", port};
    registration.host("127.0.0.1").attribute("zone", "eu").tag("blue").ttl(30s);
    return registration;
}

static void failed_calls_throw(discover::client &client) {
    CHECK(status_of([] { discover::client("nonsense"); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(status_of([] { discover::registration("web", 70000); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(status_of([&] { client.services("a/b"); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(status_of([&] { client.services("web").pick("best"); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(status_of([&] { client.services("web").wait(9, 10ms); }) == DISCOVER_ERR_TIMEOUT);
}

static void a_snapshot_is_a_range(discover::client &client) {
    discover::set web = client.services("web");
    discover::lease lease = client.register_instance(new_registration(7001), wait_timeout);
    discover::lease other = client.register_instance(new_registration(7002).manual_heartbeat().id("127.0.0.1:7002"));
    other.heartbeat();
    CHECK(other.id() == "127.0.0.1:7002" && other.service() == "web" && lease.address() == "127.0.0.1:7001");

    discover::snapshot now = web.wait(2, wait_timeout);
    std::vector<std::uint16_t> ports;
    for (const discover::instance &instance : now) ports.push_back(instance.port());
    CHECK((ports == std::vector<std::uint16_t>{7001, 7002}));
    CHECK(now.size() == 2 && !now.empty() && now.is_ready() && now.is_current() && !now.fault());

    discover::instance leader = *now.leader();
    CHECK(leader.address() == "127.0.0.1:7001" && leader.zone() == "eu" && leader.weight() == 1);
    CHECK(leader.attribute("zone") == "eu" && !leader.attribute("none"));
    CHECK((leader.attributes() == discover::attributes{{"zone", "eu"}}));
    CHECK((leader.tags() == std::vector<std::string>{"blue"}));
    CHECK(web.filter({{"zone", "eu"}}, {"blue"}).online().size() == 2);
    CHECK(web.filter({{"zone", "us"}}).snapshot().empty());
    CHECK(!web.filter({}, {"red"}).pick("random"));
    CHECK(web.pick("hash", "key")->id() == web.pick("hash", "key")->id());
    web.done(*web.pick("p2c"));

    lease.update({{"zone", "us"}}, wait_timeout);
    CHECK(lease.standing() == DISCOVER_STANDING_LIVE && !lease.error());
    CHECK(web.filter({{"zone", "us"}}).wait(1, wait_timeout).size() == 1);

    gate current, went_offline;
    discover::subscription subscription = web.subscribe([&](const discover::event &event) {
        if (event.kind() == DISCOVER_EVENT_CURRENT) current.open();
        if (event.kind() == DISCOVER_EVENT_DOWN && event.instance()->port() == 7002) went_offline.open();
    });
    CHECK(current.await(1));
    // A moved-from lease is empty; a destroyed one unregisters.
    { discover::lease moved = std::move(other); }
    CHECK(went_offline.await(1));
    CHECK(web.offline().size() == 1 && web.offline()[0].reason == DISCOVER_OFFLINE_REASON_REMOVED);
    CHECK(now.size() == 2);
}

static void an_exception_of_a_callback_is_kept_and_later_events_are_delivered(discover::client &client) {
    gate received;
    auto on_event = [&](const discover::event &event) {
        received.open();
        throw std::runtime_error(std::string(event.kind_name()));
    };
    discover::subscription subscription = client.services("thrower").subscribe(on_event);
    CHECK(received.await(1));
    discover::registration registration{"thrower", 1};
    discover::lease lease = client.register_instance(registration.host("h"));
    CHECK(received.await(3));
    try {
        std::rethrow_exception(subscription.failure());
    } catch (const std::runtime_error &first) {
        CHECK(first.what() == std::string_view("current"));
    }
}

static void a_cancelled_callback_is_destroyed(discover::client &client) {
    auto witness = std::make_shared<gate>();
    std::weak_ptr<gate> alive = witness;
    {
        auto on_event = [witness](const discover::event &) { witness->open(); };
        discover::subscription subscription = client.services("web").subscribe(on_event);
        CHECK(witness->await(1));
        witness.reset();
        CHECK(!alive.expired());
        subscription.cancel();
    }
    // A failed subscribe destroys the callback too.
    discover::client closed{"memory://closed"};
    discover::set set = closed.services("web");
    closed.close();
    auto second = std::make_shared<int>();
    CHECK(status_of([&] {
              discover::subscription none = set.subscribe([second](const discover::event &) {});
          }) == DISCOVER_ERR_CLOSED);
    CHECK(second.use_count() == 1);
}

static void statuses_and_counters_are_reported(discover::client &client) {
    CHECK(client.connection().state == DISCOVER_CONNECTION_CONNECTED && !client.connection().error);
    CHECK(client.metrics().size() == discover_metric_count() && client.metrics().at("resyncs") == 0);

    gate connected, live, released;
    auto on_connection = [&](const discover::connection_status &now) {
        if (now.state == DISCOVER_CONNECTION_CONNECTED && !now.error) connected.open();
        throw std::runtime_error("exception kept");
    };
    discover::subscription subscription = client.on_connection(on_connection);
    CHECK(connected.await(1));
    discover::lease lease = client.register_instance(new_registration(7009));
    discover::subscription standing = lease.on_standing([&](const discover::lease_status &now) {
        if (now.standing == DISCOVER_STANDING_LIVE) live.open();
        if (now.standing == DISCOVER_STANDING_RELEASED) released.open();
    });
    CHECK(live.await(1));
    discover::snapshot now = client.services("web").wait(1, wait_timeout);
    CHECK(!now.leader()->is_suspect() && now.epoch() == 0);
    CHECK(now.leader()->layouts() == std::vector<std::string>{"native"});
    CHECK(lease.attributes() == now.leader()->attributes());
    lease.unregister(wait_timeout);
    CHECK(released.await(1));
    // The release was delivered on the same thread, after the exception was kept.
    CHECK(subscription.failure());
}

// The callback throws at every event. The first exception is kept, and the callback is destroyed once.
static void a_throwing_callback_is_destroyed_once(const char *url) {
    struct witness {
        std::atomic<int> *destroyed;
        ~witness() { ++*destroyed; }
    };
    std::atomic<int> destroyed{0}, thrown{0};
    discover::client client{url};
    discover::set set = client.services("web");
    auto witnessed = std::make_shared<witness>(witness{&destroyed});
    destroyed = 0;
    gate received;
    std::optional<discover::subscription> subscription =
        set.subscribe([&, witnessed](const discover::event &) {
            thrown++;
            received.open();
            throw thrown.load();
        });
    witnessed.reset();
    CHECK(received.await(1));
    discover::lease lease = client.register_instance(new_registration(7001), wait_timeout);
    CHECK(received.await(2));
    client.close(wait_timeout);
    CHECK(destroyed == 0);
    try {
        std::rethrow_exception(subscription->failure());
    } catch (int first) {
        CHECK(first == 1 && thrown > 1);
    }
    subscription.reset();
    CHECK(destroyed == 1);
}

static void eight_threads_may_close_a_client_at_once(const char *url) {
    discover::client client{url};
    gate received;
    discover::subscription subscription =
        client.services("web").subscribe([&](const discover::event &) { received.open(); });
    discover::lease lease = client.register_instance(new_registration(7001), wait_timeout);
    CHECK(received.await(1));
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++) threads.emplace_back([&] { client.close(wait_timeout); });
    for (std::thread &thread : threads) thread.join();
    CHECK(status_of([&] { client.services("web"); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(lease.standing() == DISCOVER_STANDING_RELEASED);
}

static void a_client_can_be_moved(const char *url) {
    discover::client first{url};
    discover::client second = std::move(first);
    CHECK(second.url().substr(0, 5) == std::string_view(url).substr(0, 5));
    discover::lease lease = second.register_instance(new_registration(7001), wait_timeout);
    second = discover::client{url};
    CHECK(lease.standing() == DISCOVER_STANDING_RELEASED);
}

static void closing_inside_a_callback_fails_and_the_client_stays_open(const char *url) {
    discover::client client{url};
    gate refused;
    discover::subscription subscription = client.services("web").subscribe([&](const discover::event &) {
        if (status_of([&] { client.close(); }) == DISCOVER_ERR_BUSY) refused.open();
    });
    CHECK(refused.await(1));
    CHECK(client.url().substr(0, 5) == std::string_view(url).substr(0, 5));
    client.close(wait_timeout);
    client.close();
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    discover::client client{argv[1]};
    failed_calls_throw(client);
    a_snapshot_is_a_range(client);
    an_exception_of_a_callback_is_kept_and_later_events_are_delivered(client);
    a_cancelled_callback_is_destroyed(client);
    statuses_and_counters_are_reported(client);
    closing_inside_a_callback_fails_and_the_client_stays_open(argv[1]);
    a_throwing_callback_is_destroyed_once(argv[1]);
    eight_threads_may_close_a_client_at_once(argv[1]);
    a_client_can_be_moved(argv[1]);
}
