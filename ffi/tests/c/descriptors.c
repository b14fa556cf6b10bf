/* Descriptors: the test table shared by all languages, and lookups with them. */
#include "harness.h"

#define FIELDS 8

static char row[FIELDS][256];

/* Reads the next row of a kind from the table and splits it at tabs; missing fields are empty. */
static int next_row(FILE *table, const char *kind) {
    char line[512];

    while (fgets(line, sizeof line, table) != NULL) {
        char *from = line;
        line[strcspn(line, "\n")] = '\0';
        memset(row, 0, sizeof row);
        for (int at = 0; at < FIELDS && from != NULL; at++) {
            char *tab = strchr(from, '\t');
            size_t length = tab ? (size_t)(tab - from) : strlen(from);
            CHECK(length < sizeof row[at]);
            memcpy(row[at], from, length);
            from = tab ? tab + 1 : NULL;
        }
        if (strcmp(row[0], kind) == 0) return 1;
    }
    return 0;
}

static FILE *open_table(void) {
    FILE *table = fopen(getenv("DESCRIPTORS"), "r");
    CHECK(table != NULL);
    return table;
}

static void check_failure(const char *wanted, discover_status status, discover_error *error) {
    CHECK(status == DISCOVER_ERR_INVALID_ARGUMENT);
    SAME_TEXT(discover_error_message(error), wanted);
    discover_error_free(error);
}

static void valid_descriptors_are_parsed_and_formatted(void) {
    FILE *table = open_table();
    int rows = 0;

    for (; next_row(table, "good"); rows++) {
        discover_descriptor *descriptor;
        char tags[256] = "", port[8];

        OK(discover_descriptor_parse(row[1], &descriptor, NULL));
        SAME_TEXT(discover_descriptor_service(descriptor), row[2]);
        if (row[3][0]) SAME_TEXT(discover_descriptor_path(descriptor), row[3]);
        if (!row[3][0]) CHECK(discover_descriptor_path(descriptor) == NULL);
        for (size_t i = 0; i < discover_descriptor_tag_count(descriptor); i++) {
            if (i > 0) strcat(tags, ",");
            strcat(tags, discover_descriptor_tag(descriptor, i));
        }
        SAME_TEXT(tags, row[4]);
        CHECK(discover_descriptor_tag(descriptor, discover_descriptor_tag_count(descriptor)) == NULL);
        snprintf(port, sizeof port, "%d", discover_descriptor_port(descriptor));
        SAME_TEXT(port, row[5]);
        SAME_TEXT(discover_descriptor_protocol(descriptor), row[6]);
        SAME_TEXT(discover_descriptor_format(descriptor), row[7]);
        discover_descriptor_free(descriptor);
    }
    CHECK(rows > 0);
    fclose(table);
}

static void malformed_descriptors_are_rejected(void) {
    FILE *table = open_table();
    int rows = 0;

    for (; next_row(table, "bad"); rows++) {
        discover_descriptor *none;
        discover_error *error;
        discover_status status = discover_descriptor_parse(row[1], &none, &error);
        CHECK(none == NULL);
        check_failure(row[2], status, error);
    }
    CHECK(rows > 0);
    fclose(table);
}

/* Sets the environment variables of the table and returns how many are descriptors. */
static size_t set_variables(void) {
    FILE *table = open_table();
    size_t count = 0;

    for (; next_row(table, "variable"); count++) CHECK(setenv(row[1], row[2], 1) == 0);
    rewind(table);
    while (next_row(table, "other")) CHECK(setenv(row[1], row[2], 1) == 0);
    fclose(table);
    return count;
}

static void the_environment_is_parsed(void) {
    size_t count = set_variables();
    discover_descriptors *all;
    FILE *table = open_table();

    OK(discover_descriptors_from_env("BACKEND_", &all, NULL));
    CHECK(count > 0 && discover_descriptors_count(all) == count);
    CHECK(discover_descriptors_name(all, count) == NULL && discover_descriptors_get(all, count) == NULL);
    for (size_t i = 1; i < count; i++) {
        CHECK(strcmp(discover_descriptors_name(all, i - 1), discover_descriptors_name(all, i)) < 0);
    }
    while (next_row(table, "variable")) {
        size_t at = 0;
        while (at < count && strcmp(discover_descriptors_name(all, at), row[3]) != 0) at++;
        SAME_TEXT(discover_descriptor_format(discover_descriptors_get(all, at)), row[4]);
    }
    fclose(table);
    discover_descriptors_free(all);
}

static void a_malformed_variable_is_skipped(void) {
    FILE *table = open_table();
    discover_descriptors *rest, *none;
    int rows = 0;

    for (; next_row(table, "wrong"); rows++) {
        const char *const names[] = {row[1], "BACKEND_OK"}, *const values[] = {row[2], "web;80"};
        OK(discover_descriptors_from_pairs("BACKEND_", names, values, 2, &rest, NULL));
        CHECK(discover_descriptors_count(rest) == 1);
        SAME_TEXT(discover_descriptors_name(rest, 0), "OK");
        discover_descriptors_free(rest);
    }
    CHECK(rows > 0);
    fclose(table);
    FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "the prefix is empty",
          discover_descriptors_from_env("", &none, &error));
    OK(discover_descriptors_from_pairs("BACKEND_", NULL, NULL, 0, &none, NULL));
    CHECK(none != NULL && discover_descriptors_count(none) == 0);
    discover_descriptors_free(none);
}

static void filtering_by_tags_finds_the_matching_instances(const char *url) {
    discover_client *client = open_client(url);
    discover_registration *tagged_registration = new_registration("web", 7001);
    discover_descriptor *wanted;
    discover_set *web, *tagged;
    const char *tags[1];

    OK(discover_registration_add_tag(tagged_registration, "blue", NULL));
    discover_lease *first = register_instance(client, tagged_registration);
    discover_lease *second = register_instance(client, new_registration("web", 7002));
    OK(discover_descriptor_parse("web[blue];80", &wanted, NULL));
    web = open_set(client, discover_descriptor_service(wanted));
    tags[0] = discover_descriptor_tag(wanted, 0);
    OK(discover_set_filter(web, NULL, NULL, 0, tags, 1, &tagged, NULL));
    discover_descriptor_free(wanted);
    discover_snapshot_free(await_online(web, 2));
    discover_snapshot *found = await_online(tagged, 1);
    CHECK(discover_snapshot_online_count(found) == 1);
    SAME_TEXT(discover_instance_address(discover_snapshot_online(found, 0)), "127.0.0.1:7001");
    discover_snapshot_free(found);
    discover_set_release(tagged);
    discover_set_release(web);
    discover_lease_release(first);
    discover_lease_release(second);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
}

int main(int argc, char **argv) {
    const char *url = test_url(argc, argv);

    valid_descriptors_are_parsed_and_formatted();
    malformed_descriptors_are_rejected();
    the_environment_is_parsed();
    a_malformed_variable_is_skipped();
    filtering_by_tags_finds_the_matching_instances(url);
    return 0;
}
