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
            std::cerr << __FILE__ << ':' << __LINE__ << ": does not hold: " #condition "\n"; \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (false)

static constexpr auto patience = 60s;

// Counts down from any thread.
class gate {
public:
    void open() {
        std::lock_guard<std::mutex> locked(lock_);
        opened_++;
        changed_.notify_all();
    }
    bool await(int times) {
        std::unique_lock<std::mutex> locked(lock_);
        return changed_.wait_for(locked, patience, [&] { return opened_ >= times; });
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

static discover::registration described(std::int64_t port) {
    discover::registration registration{"web", port};
    registration.host("127.0.0.1").attribute("zone", "eu").tag("blue").ttl(30s);
    return registration;
}

static void failures_are_thrown(discover::client &client) {
    CHECK(status_of([] { discover::client("nonsense"); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(status_of([] { discover::registration("web", 70000); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(status_of([&] { client.services("a/b"); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(status_of([&] { client.services("web").pick("best"); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(status_of([&] { client.services("web").wait(9, 10ms); }) == DISCOVER_ERR_TIMEOUT);
}

static void reading_is_a_range(discover::client &client) {
    discover::set web = client.services("web");
    discover::lease lease = client.register_instance(described(7001), patience);
    discover::lease other = client.register_instance(described(7002).manual_heartbeat().id("127.0.0.1:7002"));
    other.heartbeat();
    CHECK(other.id() == "127.0.0.1:7002" && other.service() == "web" && lease.address() == "127.0.0.1:7001");

    discover::snapshot now = web.wait(2, patience);
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

    lease.update({{"zone", "us"}}, patience);
    CHECK(lease.standing() == DISCOVER_STANDING_LIVE && !lease.reason());
    CHECK(web.filter({{"zone", "us"}}).wait(1, patience).size() == 1);

    gate current, gone;
    discover::subscription subscription = web.subscribe([&](const discover::event &event) {
        if (event.kind() == DISCOVER_EVENT_CURRENT) current.open();
        if (event.kind() == DISCOVER_EVENT_DOWN && event.instance()->port() == 7002) gone.open();
    });
    CHECK(current.await(1));
    // A lease that is moved from is empty; one that is destroyed unregisters.
    { discover::lease moved = std::move(other); }
    CHECK(gone.await(1));
    CHECK(web.offline().size() == 1 && web.offline()[0].departure == DISCOVER_DEPARTURE_REMOVED);
    CHECK(now.size() == 2);
}

static void a_callback_that_throws_is_noted_and_lives_on(discover::client &client) {
    gate heard;
    auto on_event = [&](const discover::event &event) {
        heard.open();
        throw std::runtime_error(std::string(event.kind_name()));
    };
    discover::subscription subscription = client.services("thrower").subscribe(on_event);
    CHECK(heard.await(1));
    discover::registration registration{"thrower", 1};
    discover::lease lease = client.register_instance(registration.host("h"));
    CHECK(heard.await(3));
    try {
        std::rethrow_exception(subscription.failure());
    } catch (const std::runtime_error &first) {
        CHECK(first.what() == std::string_view("current"));
    }
}

static void a_callback_that_is_cancelled_is_destroyed(discover::client &client) {
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
    // A failed subscribe destroys it too.
    discover::client closed{"memory://closed"};
    discover::set set = closed.services("web");
    closed.close();
    auto second = std::make_shared<int>();
    CHECK(status_of([&] {
              discover::subscription none = set.subscribe([second](const discover::event &) {});
          }) == DISCOVER_ERR_CLOSED);
    CHECK(second.use_count() == 1);
}

static void conditions_and_counters_are_told(discover::client &client) {
    CHECK(client.connection().state == DISCOVER_CONNECTION_CONNECTED && !client.connection().reason);
    CHECK(client.metrics().size() == discover_metric_count() && client.metrics().at("resyncs") == 0);

    gate connected, live, released;
    auto on_connection = [&](const discover::condition &now) {
        if (now.state == DISCOVER_CONNECTION_CONNECTED && !now.reason) connected.open();
        throw std::runtime_error("noted");
    };
    discover::subscription subscription = client.on_connection(on_connection);
    CHECK(connected.await(1));
    discover::lease lease = client.register_instance(described(7009));
    discover::subscription standing = lease.on_standing([&](const discover::condition &now) {
        if (now.state == DISCOVER_STANDING_LIVE) live.open();
        if (now.state == DISCOVER_STANDING_RELEASED) released.open();
    });
    CHECK(live.await(1));
    discover::snapshot now = client.services("web").wait(1, patience);
    CHECK(!now.leader()->is_suspect() && now.epoch() == 0);
    CHECK(now.leader()->layouts() == std::vector<std::string>{"native"});
    CHECK(lease.attributes() == now.leader()->attributes());
    lease.unregister(patience);
    CHECK(released.await(1));
    // What is told later on the same thread comes after the exception was noted.
    CHECK(subscription.failure());
}

// Throws at every event; the first is kept for whoever asks, and what it holds is let go of once.
static void a_callback_that_throws_is_destroyed_once(const char *url) {
    struct witness {
        std::atomic<int> *destroyed;
        ~witness() { ++*destroyed; }
    };
    std::atomic<int> destroyed{0}, thrown{0};
    discover::client client{url};
    discover::set set = client.services("web");
    auto witnessed = std::make_shared<witness>(witness{&destroyed});
    destroyed = 0;
    gate heard;
    std::optional<discover::subscription> subscription =
        set.subscribe([&, witnessed](const discover::event &) {
            thrown++;
            heard.open();
            throw thrown.load();
        });
    witnessed.reset();
    CHECK(heard.await(1));
    discover::lease lease = client.register_instance(described(7001), patience);
    CHECK(heard.await(2));
    client.close(patience);
    CHECK(destroyed == 0);
    try {
        std::rethrow_exception(subscription->failure());
    } catch (int first) {
        CHECK(first == 1 && thrown > 1);
    }
    subscription.reset();
    CHECK(destroyed == 1);
}

static void eight_threads_may_close_it_at_once(const char *url) {
    discover::client client{url};
    gate heard;
    discover::subscription subscription =
        client.services("web").subscribe([&](const discover::event &) { heard.open(); });
    discover::lease lease = client.register_instance(described(7001), patience);
    CHECK(heard.await(1));
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++) threads.emplace_back([&] { client.close(patience); });
    for (std::thread &thread : threads) thread.join();
    CHECK(status_of([&] { client.services("web"); }) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(lease.standing() == DISCOVER_STANDING_RELEASED);
}

static void a_client_can_be_moved(const char *url) {
    discover::client first{url};
    discover::client second = std::move(first);
    CHECK(second.url().substr(0, 5) == std::string_view(url).substr(0, 5));
    discover::lease lease = second.register_instance(described(7001), patience);
    second = discover::client{url};
    CHECK(lease.standing() == DISCOVER_STANDING_RELEASED);
}

static void closing_inside_a_callback_is_refused_and_the_client_stays_open(const char *url) {
    discover::client client{url};
    gate refused;
    discover::subscription subscription = client.services("web").subscribe([&](const discover::event &) {
        if (status_of([&] { client.close(); }) == DISCOVER_ERR_BUSY) refused.open();
    });
    CHECK(refused.await(1));
    CHECK(client.url().substr(0, 5) == std::string_view(url).substr(0, 5));
    client.close(patience);
    client.close();
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    discover::client client{argv[1]};
    failures_are_thrown(client);
    reading_is_a_range(client);
    a_callback_that_throws_is_noted_and_lives_on(client);
    a_callback_that_is_cancelled_is_destroyed(client);
    conditions_and_counters_are_told(client);
    closing_inside_a_callback_is_refused_and_the_client_stays_open(argv[1]);
    a_callback_that_throws_is_destroyed_once(argv[1]);
    eight_threads_may_close_it_at_once(argv[1]);
    a_client_can_be_moved(argv[1]);
}
