/* Any lines as announces to one tracker; every answer is bencoded and bounded. */
#include <string.h>
#include "base/assert.h"
#include "fuzz.h"
#include "swarm/announce.h"

/* Skips one bencoded value; NULL: it is none. */
static const char *skip_value(const char *at, const char *end, int depth)
{
    uint64_t size = 0;

    if (at == end || depth > 2)
        return NULL;
    if (*at == 'i') {
        for (at++; at < end && *at >= '0' && *at <= '9';)
            at++;
        return at < end && *at == 'e' ? at + 1 : NULL;
    }
    if (*at == 'd') {
        for (at++; at && at < end && *at != 'e';)
            at = skip_value(at, end, depth + 1);
        return at && at < end ? at + 1 : NULL;
    }
    while (at < end && *at >= '0' && *at <= '9' && size < DP_ANNOUNCE_REPLY_MAX)
        size = size * 10 + (uint64_t)(*at++ - '0');
    return at < end && *at == ':' && size < (uint64_t)(end - at) ? at + 1 + size : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static char text[8192];
    uint32_t torrents, peers, lines = 0;
    dp_announces *table;
    dp_buf reply;

    size = DP_MIN(size, sizeof text - 1);
    memcpy(text, bytes, size);
    text[size] = '\0';
    if (dp_announces_open(&table, NULL, 0, 60, NULL))
        return 0;
    dp_buf_init(&reply, DP_ANNOUNCE_REPLY_MAX);
    for (char *line = text; *line; lines++) {
        size_t line_size = strcspn(line, "\n");
        bool has_next = line[line_size] == '\n';
        uint8_t ip[16] = { (uint8_t)(lines % 3) };
        dp_announce announce;
        dp_error err;

        line[line_size] = '\0';
        dp_buf_reset(&reply);
        if (dp_announce_parse(&announce, line, &err))
            DP_CHECK(dp_announce_failure(&reply, err.text) == DP_OK);
        else
            DP_CHECK(dp_announces_answer(table, &announce, ip, lines * 1000000000u, &reply) ==
                     DP_OK);
        DP_CHECK(skip_value(reply.bytes, reply.bytes + reply.size, 0) == reply.bytes + reply.size);
        line += line_size + has_next;
    }
    dp_announces_count(table, lines * 1000000000u, &torrents, &peers);
    DP_CHECK(torrents <= peers && peers <= lines);
    dp_buf_deinit(&reply);
    dp_announces_close(table);
    return 0;
}
