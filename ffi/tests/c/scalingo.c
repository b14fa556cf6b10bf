/* The view of Scalingo's etcd-discovery: services, hosts, URLs. Every language has this test. */
#include "harness.h"

static discover_lease *register_host(const discover_client *client, const char *host, const char *const pairs[][2],
                           size_t count) {
    discover_registration *one;
    discover_lease *lease;

    OK(discover_registration_new("api", 80, &one, NULL));
    OK(discover_registration_set_host(one, host, NULL));
    for (size_t i = 0; i < count; i++) {
        OK(discover_registration_set_attribute(one, pairs[i][0], pairs[i][1], NULL));
    }
    lease = register_instance(client, one);
    return lease;
}

/* Checks a call that writes a URL to `url`. */
#define CHECK_URL(call, wanted)         \
    do {                            \
        OK(call);                   \
        SAME_TEXT(url, wanted);          \
        discover_string_free(url);  \
    } while (0)

static void check_host_addresses(const discover_scalingo_host *host) {
    char *url;
    discover_error *error;

    SAME_TEXT(discover_scalingo_host_service_name(host), "api");
    SAME_TEXT(discover_scalingo_host_uuid(host), "b:80");
    SAME_TEXT(discover_scalingo_host_hostname(host), "api.dev");
    SAME_TEXT(discover_scalingo_host_private_hostname(host), "b");
    SAME_TEXT(discover_scalingo_host_user(host), "u");
    SAME_TEXT(discover_scalingo_host_password(host), "p@");
    SAME_TEXT(discover_scalingo_host_shard(host), "");
    CHECK(discover_scalingo_host_is_public(host) && !discover_scalingo_host_is_critical(host));
    CHECK(discover_scalingo_host_port(host, "https") == 443);
    CHECK(discover_scalingo_host_port(host, "http") == 0);
    CHECK(discover_scalingo_host_private_port(host, "http") == 80);
    CHECK(discover_scalingo_host_port_count(host) == 1);
    CHECK(discover_scalingo_host_private_port_count(host) == 1);
    SAME_TEXT(discover_scalingo_host_port_scheme(host, 0), "https");
    SAME_TEXT(discover_scalingo_host_private_port_scheme(host, 0), "http");
    CHECK(discover_scalingo_host_port_scheme(host, 1) == NULL);
    CHECK(discover_scalingo_host_private_port_scheme(host, 1) == NULL);
    CHECK_URL(discover_scalingo_host_url(host, "", "/x", &url, NULL), "https://u:p%40@api.dev:443/x");
    CHECK_URL(discover_scalingo_host_private_url(host, "http", "", &url, NULL), "http://u:p%40@b:80");
    CHECK(discover_scalingo_host_url(host, "ftp", "", &url, &error) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(url == NULL && strstr(discover_error_message(error), "it has https"));
    discover_error_free(error);
}

int main(int argc, char **argv) {
    static const char *const sharded[][2] = {{"shard", "s1"}, {"critical", "true"}};
    static const char *const open[][2] = {
        {"public", "true"}, {"hostname", "api.dev"}, {"ports.https", "443"}, {"user", "u"}, {"password", "p@"}};
    discover_client *client = open_client(test_url(argc, argv));
    discover_lease *first = register_host(client, "a", sharded, 2), *second = register_host(client, "b", open, 5);
    discover_set *set = open_set(client, "api");
    discover_snapshot *online = await_online(set, 2);
    discover_scalingo_service *api = discover_scalingo_service_from_set(set), *shard;
    discover_scalingo_host *own = discover_scalingo_host_from_instance(discover_snapshot_online(online, 1));
    discover_error *error;
    char *url;

    SAME_TEXT(discover_scalingo_service_name(api), "api");
    CHECK(discover_scalingo_service_is_public(api) && discover_scalingo_service_is_critical(api));
    CHECK(discover_scalingo_service_host_count(api) == 2 && discover_scalingo_service_host(api, 2) == NULL);
    SAME_TEXT(discover_scalingo_host_hostname(discover_scalingo_service_host(api, 0)), "a");
    CHECK(discover_scalingo_service_one(api) != NULL);
    check_host_addresses(discover_scalingo_service_host(api, 1));
    check_host_addresses(own);
    CHECK_URL(discover_scalingo_service_url(api, "", "/x", &url, NULL), "https://u:p%40@api.dev:443/x");

    OK(discover_scalingo_service_shard(api, "s1", &shard, NULL));
    CHECK(discover_scalingo_service_host_count(shard) == 1 && !discover_scalingo_service_is_public(shard));
    SAME_TEXT(discover_scalingo_host_hostname(discover_scalingo_service_one(shard)), "a");
    CHECK_URL(discover_scalingo_service_url(shard, "", "/x", &url, NULL), "http://a:80/x");
    discover_scalingo_service_free(shard);
    OK(discover_scalingo_service_shard(api, "s2", &shard, NULL));
    CHECK(discover_scalingo_service_one(shard) == NULL);
    CHECK(discover_scalingo_service_url(shard, "", "", &url, &error) == DISCOVER_ERR_NOT_FOUND);
    SAME_TEXT(discover_error_message(error), "service api has no host online in shard \"s2\"");
    discover_error_free(error);
    discover_scalingo_service_free(shard);

    discover_snapshot_free(online);
    discover_set_release(set);
    discover_lease_release(first);
    discover_lease_release(second);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    /* Hosts and services outlive the client. */
    check_host_addresses(own);
    discover_scalingo_host_free(own);
    discover_scalingo_service_free(api);
    return 0;
}
