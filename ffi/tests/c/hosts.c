/* A service as etcd-discovery knows it: the story that each language tells of it. */
#include "check.h"

static discover_lease *add(const discover_client *client, const char *host, const char *const pairs[][2],
                           size_t count) {
    discover_registration *one;
    discover_lease *lease;

    OK(discover_registration_new("api", 80, &one, NULL));
    OK(discover_registration_set_host(one, host, NULL));
    for (size_t i = 0; i < count; i++) {
        OK(discover_registration_set_attribute(one, pairs[i][0], pairs[i][1], NULL));
    }
    lease = enter(client, one);
    return lease;
}

/* A call that puts a URL into `url`. */
#define GIVES(call, wanted)         \
    do {                            \
        OK(call);                   \
        SAME(url, wanted);          \
        discover_string_free(url);  \
    } while (0)

static void a_host_has_its_places(const discover_host *host) {
    char *url;
    discover_error *error;

    SAME(discover_host_service_name(host), "api");
    SAME(discover_host_uuid(host), "b:80");
    SAME(discover_host_hostname(host), "api.dev");
    SAME(discover_host_private_hostname(host), "b");
    SAME(discover_host_user(host), "u");
    SAME(discover_host_password(host), "p@");
    SAME(discover_host_shard(host), "");
    CHECK(discover_host_is_public(host) && !discover_host_is_critical(host));
    CHECK(discover_host_port(host, "https") == 443 && discover_host_port(host, "http") == 0);
    CHECK(discover_host_private_port(host, "http") == 80);
    CHECK(discover_host_port_count(host) == 1 && discover_host_private_port_count(host) == 1);
    SAME(discover_host_port_scheme(host, 0), "https");
    SAME(discover_host_private_port_scheme(host, 0), "http");
    CHECK(!discover_host_port_scheme(host, 1) && !discover_host_private_port_scheme(host, 1));
    GIVES(discover_host_url(host, "", "/x", &url, NULL), "https://u:p%40@api.dev:443/x");
    GIVES(discover_host_private_url(host, "http", "", &url, NULL), "http://u:p%40@b:80");
    CHECK(discover_host_url(host, "ftp", "", &url, &error) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(url == NULL && strstr(discover_error_message(error), "it has https"));
    discover_error_free(error);
}

int main(int argc, char **argv) {
    static const char *const sharded[][2] = {{"shard", "s1"}, {"critical", "true"}};
    static const char *const open[][2] = {
        {"public", "true"}, {"hostname", "api.dev"}, {"ports.https", "443"}, {"user", "u"}, {"password", "p@"}};
    discover_client *client = open_client(url_of(argc, argv));
    discover_lease *first = add(client, "a", sharded, 2), *second = add(client, "b", open, 5);
    discover_set *set = services(client, "api");
    discover_snapshot *online = await_online(set, 2);
    discover_service *api = discover_set_hosts(set), *shard;
    discover_host *own = discover_host_of(discover_snapshot_online(online, 1));
    discover_error *error;
    char *url;

    SAME(discover_service_name(api), "api");
    CHECK(discover_service_is_public(api) && discover_service_is_critical(api));
    CHECK(discover_service_host_count(api) == 2 && discover_service_host(api, 2) == NULL);
    SAME(discover_host_hostname(discover_service_host(api, 0)), "a");
    CHECK(discover_service_one(api) != NULL);
    a_host_has_its_places(discover_service_host(api, 1));
    a_host_has_its_places(own);
    GIVES(discover_service_url(api, "", "/x", &url, NULL), "https://u:p%40@api.dev:443/x");

    OK(discover_service_shard(api, "s1", &shard, NULL));
    CHECK(discover_service_host_count(shard) == 1 && !discover_service_is_public(shard));
    SAME(discover_host_hostname(discover_service_one(shard)), "a");
    GIVES(discover_service_url(shard, "", "/x", &url, NULL), "http://a:80/x");
    discover_service_free(shard);
    OK(discover_service_shard(api, "s2", &shard, NULL));
    CHECK(discover_service_one(shard) == NULL);
    CHECK(discover_service_url(shard, "", "", &url, &error) == DISCOVER_ERR_NOT_FOUND);
    SAME(discover_error_message(error), "no host of shard \"s2\" of service api is online");
    discover_error_free(error);
    discover_service_free(shard);

    discover_snapshot_free(online);
    discover_set_release(set);
    discover_lease_release(first);
    discover_lease_release(second);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    /* What was made outlives the client. */
    a_host_has_its_places(own);
    discover_host_free(own);
    discover_service_free(api);
    return 0;
}
