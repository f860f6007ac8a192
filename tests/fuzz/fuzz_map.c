/* The shard map from a peer or server: what is accepted must be sound, must come back the same
 * after encoding, and may be merged into another map. */
#include "common/base/check.h"
#include "common/wire/msg_map.h"
#include "tests/fuzz/fuzz.h"

static void check_sound(const struct shard_map *m)
{
    CHECK(m->n_shards <= LIMIT_SLOTS);
    CHECK(m->n_nodes <= LIMIT_NODES);
    for (uint32_t i = 0; i < m->n_shards; i++) {
        const struct shard_desc *s = &m->shards[i];
        CHECK(s->first_slot <= s->last_slot);
        CHECK(s->last_slot < LIMIT_SLOTS);
        CHECK(s->n_replicas <= LIMIT_GROUP_MEMBERS);
        CHECK(i == 0 || s->first_slot > m->shards[i - 1].last_slot);
        CHECK(shard_map_find(m, s->first_slot) == s);
        CHECK(shard_map_find(m, s->last_slot) == s);
    }
    for (uint32_t i = 0; i < m->n_nodes; i++)
        CHECK(shard_map_find_node(m, m->nodes[i].node) == &m->nodes[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shard_map a, b, merged;
    struct buf once = {0}, twice = {0};
    if (msg_map_decode(slice_of(data, size), &a) != ERR_OK)
        return 0;
    check_sound(&a);
    msg_map_encode(&once, &a);
    CHECK(msg_map_decode(buf_slice(&once), &b) == ERR_OK);
    msg_map_encode(&twice, &b);
    CHECK(slice_eq(buf_slice(&once), buf_slice(&twice)));

    shard_map_init(&merged);
    struct shard_desc other = {.group = 1, .first_slot = 100, .last_slot = 9000, .epoch = {2, 1}};
    shard_map_put_shard(&merged, &other);
    shard_map_merge(&merged, &a);
    check_sound(&merged);
    shard_map_merge(&merged, &b);
    CHECK(!shard_map_merge(&merged, &b)); /* merging the same again changes nothing */
    check_sound(&merged);
    shard_map_close(&merged);
    shard_map_close(&a);
    shard_map_close(&b);
    buf_close(&once);
    buf_close(&twice);
    return 0;
}
