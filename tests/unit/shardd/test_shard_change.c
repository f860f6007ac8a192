/* Changes of a shard: every kind in every phase, what comes late, what does not fit, and bytes. */
#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "shardd/shard_change.h"

#define OP 20u

static struct shard shard_in(uint8_t phase)
{
    struct shard s = {.group = 1,
                      .replica = 11,
                      .first_slot = 100,
                      .last_slot = 199,
                      .epoch = {5, 3},
                      .version = 1000,
                      .time_ms = 5000,
                      .phase = phase};
    if (phase != SHARD_PHASE_NONE) {
        s.merge = OP;
        s.merge_peer = 2;
        s.peer_first = 200;
        s.peer_last = 299;
    }
    if (phase == SHARD_PHASE_FROZEN)
        s.frozen_index = 77;
    return s;
}

static struct shard_change change_of(uint8_t kind)
{
    struct shard_change c = {.kind = kind, .op = OP, .epoch = {5, 3}, .time_ms = 6000};
    if (kind == SHARD_SPLIT || kind == SHARD_PREPARE)
        c.other = (struct shard_desc){.group = 3,
                                      .first_slot = 150,
                                      .last_slot = 199,
                                      .epoch = {6, 1},
                                      .n_replicas = 2,
                                      .replica = {{31, 1, 1}, {32, 2, 1}}};
    else if (kind <= SHARD_MERGE_INTENT || kind == SHARD_MERGE_OWN)
        c.other =
            (struct shard_desc){.group = 2, .first_slot = 200, .last_slot = 299, .epoch = {9, 4}};
    if (kind == SHARD_MERGE_OWN) {
        c.source_index = 70;
        c.source_version = 2000;
        c.source_time_ms = 7000;
    }
    return c;
}

static void assert_same(const struct shard *a, const struct shard *b)
{
    struct buf x = {0}, y = {0};
    shard_encode(a, &x);
    shard_encode(b, &y);
    ck_assert(slice_eq(buf_slice(&x), buf_slice(&y)));
    buf_close(&x);
    buf_close(&y);
}

/* What each kind does in each phase to a shard of which the operator is the present one (in NONE:
 * unknown yet). */
static const struct {
    uint8_t kind;
    enum err in[4]; /* by phase */
    uint8_t phase;  /* afterwards */
    uint32_t range;
} table[] = {
    {SHARD_SPLIT, {ERR_OK, ERR_REFUSED, ERR_REFUSED, ERR_REFUSED}, SHARD_PHASE_NONE, 6},
    {SHARD_MERGE_TARGET, {ERR_OK, ERR_REFUSED, ERR_REFUSED, ERR_REFUSED}, SHARD_PHASE_TARGET, 5},
    {SHARD_MERGE_INTENT, {ERR_OK, ERR_REFUSED, ERR_REFUSED, ERR_REFUSED}, SHARD_PHASE_SOURCE, 5},
    {SHARD_MERGE_FREEZE, {ERR_REFUSED, ERR_REFUSED, ERR_OK, ERR_REFUSED}, SHARD_PHASE_FROZEN, 6},
    {SHARD_MERGE_OWN, {ERR_REFUSED, ERR_OK, ERR_REFUSED, ERR_REFUSED}, SHARD_PHASE_NONE, 10},
    {SHARD_MERGE_ABORT, {ERR_OK, ERR_OK, ERR_REFUSED, ERR_REFUSED}, SHARD_PHASE_NONE, 5},
    {SHARD_MERGE_UNFREEZE, {ERR_OK, ERR_REFUSED, ERR_OK, ERR_OK}, SHARD_PHASE_NONE, 6},
};

START_TEST(each_kind_in_each_phase)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (uint8_t phase = 0; phase < 4; phase++) {
            struct shard_change c = change_of(table[i].kind);
            struct shard s = shard_in(phase), before = s;
            enum err e = shard_change_apply(&s, &c, 50);
            ck_assert_msg(e == table[i].in[phase], "%s in phase %u: %s", shard_change_name(c.kind),
                          phase, err_name(e));
            if (e != ERR_OK) {
                assert_same(&s, &before);
                continue;
            }
            ck_assert_uint_eq(s.phase, table[i].phase);
            ck_assert_uint_eq(s.epoch.range, table[i].range);
            ck_assert_uint_eq(s.epoch.members, 3);
            ck_assert_uint_eq(s.merge, c.kind == SHARD_SPLIT ? 0 : OP);
            ck_assert_uint_eq(s.frozen_index, c.kind == SHARD_MERGE_FREEZE ? 50 : 0);
            ck_assert_uint_eq(s.merge_peer, table[i].phase == SHARD_PHASE_NONE ? 0 : 2);
            ck_assert_uint_eq(s.time_ms, c.kind == SHARD_MERGE_OWN ? 7000 : 6000);
            ck_assert_uint_eq(s.version, c.kind == SHARD_MERGE_OWN ? 2000 : 1000);
            ck_assert(shard_change_apply(&s, &c, 51) != ERR_OK); /* the same again */
        }
    }
}
END_TEST

START_TEST(another_epoch_is_late)
{
    static const struct shard_epoch late[] = {{4, 3}, {6, 3}, {5, 2}, {5, 4}};
    for (uint8_t kind = SHARD_SPLIT; kind <= SHARD_PREPARE; kind++) {
        for (size_t k = 0; k < sizeof late / sizeof *late; k++) {
            for (uint8_t phase = 0; phase < 4; phase++) {
                struct shard s = shard_in(phase), before = s;
                struct shard_change c = change_of(kind);
                c.epoch = late[k];
                ck_assert_int_eq(shard_change_apply(&s, &c, 50), ERR_WRONG_EPOCH);
                assert_same(&s, &before);
            }
        }
    }
}
END_TEST

/* A PREPARE fits where its SPLIT would. */
START_TEST(a_preparation_changes_nothing_but_time)
{
    for (uint8_t phase = 0; phase < 4; phase++) {
        struct shard s = shard_in(phase), want = s;
        struct shard_change c = change_of(SHARD_PREPARE);
        enum err fits = phase == SHARD_PHASE_NONE ? ERR_OK : ERR_REFUSED;
        want.time_ms = fits == ERR_OK ? 6000 : 5000;
        ck_assert_int_eq(shard_change_apply(&s, &c, 50), fits);
        assert_same(&s, &want);
        c.other.first_slot = 100; /* all of it */
        ck_assert_int_eq(shard_change_apply(&s, &c, 50), ERR_REFUSED);
    }
}
END_TEST

START_TEST(another_operator_is_refused)
{
    for (uint8_t kind = SHARD_MERGE_TARGET; kind <= SHARD_MERGE_UNFREEZE; kind++) {
        for (uint8_t phase = 0; phase < 4; phase++) {
            for (unsigned over = 0; over < 2; over++) {
                struct shard s = shard_in(phase), before;
                struct shard_change c = change_of(kind);
                s.merge = OP; /* in NONE: it is over */
                c.op = phase == SHARD_PHASE_NONE ? OP - over : over ? OP + 1 : OP - 1;
                before = s;
                ck_assert_int_eq(shard_change_apply(&s, &c, 50), ERR_REFUSED);
                assert_same(&s, &before);
            }
        }
    }
}
END_TEST

START_TEST(splits_of_both_ends_and_of_wrong_ranges)
{
    static const struct {
        uint16_t first, last;
        uint64_t group;
        struct shard_epoch epoch;
        enum err want;
        uint16_t left_first, left_last;
    } t[] = {
        {150, 199, 3, {6, 1}, ERR_OK, 100, 149},
        {199, 199, 3, {6, 1}, ERR_OK, 100, 198},
        {101, 199, 3, {6, 1}, ERR_OK, 100, 100},
        {100, 149, 3, {6, 1}, ERR_OK, 150, 199},
        {100, 100, 3, {6, 1}, ERR_OK, 101, 199},
        {100, 199, 3, {6, 1}, ERR_REFUSED, 0, 0}, /* all of it */
        {120, 150, 3, {6, 1}, ERR_REFUSED, 0, 0}, /* the middle */
        {90, 150, 3, {6, 1}, ERR_REFUSED, 0, 0},
        {150, 200, 3, {6, 1}, ERR_REFUSED, 0, 0},
        {200, 299, 3, {6, 1}, ERR_REFUSED, 0, 0},
        {0, 16383, 3, {6, 1}, ERR_REFUSED, 0, 0},
        {150, 199, 1, {6, 1}, ERR_REFUSED, 0, 0}, /* itself */
        {150, 199, 3, {5, 1}, ERR_REFUSED, 0, 0},
        {150, 199, 3, {7, 1}, ERR_REFUSED, 0, 0},
        {150, 199, 3, {6, 2}, ERR_REFUSED, 0, 0},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct shard s = shard_in(SHARD_PHASE_NONE), before = s;
        struct shard_change c = change_of(SHARD_SPLIT);
        c.other.first_slot = t[i].first;
        c.other.last_slot = t[i].last;
        c.other.group = t[i].group;
        c.other.epoch = t[i].epoch;
        ck_assert_int_eq(shard_change_apply(&s, &c, 50), t[i].want);
        if (t[i].want != ERR_OK) {
            assert_same(&s, &before);
            continue;
        }
        ck_assert_uint_eq(s.first_slot, t[i].left_first);
        ck_assert_uint_eq(s.last_slot, t[i].left_last);
        ck_assert(!shard_owns(&s, t[i].first) && !shard_owns(&s, t[i].last));
        ck_assert(shard_owns(&s, t[i].left_first) && shard_owns(&s, t[i].left_last));
    }
}
END_TEST

START_TEST(merges_take_neighbours_only)
{
    static const struct {
        uint16_t first, last;
        uint64_t group;
        enum err want;
    } t[] = {
        {200, 299, 2, ERR_OK},      {0, 99, 2, ERR_OK},         {99, 99, 2, ERR_OK},
        {201, 299, 2, ERR_REFUSED}, {0, 98, 2, ERR_REFUSED},    {150, 299, 2, ERR_REFUSED},
        {200, 299, 1, ERR_REFUSED}, {100, 199, 2, ERR_REFUSED},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        for (uint8_t kind = SHARD_MERGE_TARGET; kind <= SHARD_MERGE_INTENT; kind++) {
            struct shard s = shard_in(SHARD_PHASE_NONE);
            struct shard_change c = change_of(kind);
            c.other.first_slot = t[i].first;
            c.other.last_slot = t[i].last;
            c.other.group = t[i].group;
            ck_assert_int_eq(shard_change_apply(&s, &c, 50), t[i].want);
        }
    }
}
END_TEST

START_TEST(own_wants_what_target_announced)
{
    for (unsigned i = 0; i < 4; i++) {
        struct shard s = shard_in(SHARD_PHASE_TARGET);
        struct shard_change c = change_of(SHARD_MERGE_OWN);
        c.other.group += i == 1;
        c.other.last_slot = (uint16_t)(c.other.last_slot + (i == 2));
        c.other.first_slot = (uint16_t)(c.other.first_slot + (i == 3));
        ck_assert_int_eq(shard_change_apply(&s, &c, 50), i == 0 ? ERR_OK : ERR_REFUSED);
        ck_assert_uint_eq(s.last_slot, i == 0 ? 299 : 199);
    }
    /* A source before the target, with an older epoch, version and time. */
    struct shard s = shard_in(SHARD_PHASE_TARGET);
    struct shard_change c = change_of(SHARD_MERGE_OWN);
    s.peer_first = c.other.first_slot = 10;
    s.peer_last = c.other.last_slot = 99;
    c.other.epoch.range = 2;
    c.source_version = c.source_time_ms = 1;
    ck_assert_int_eq(shard_change_apply(&s, &c, 50), ERR_OK);
    ck_assert_uint_eq(s.first_slot, 10);
    ck_assert_uint_eq(s.last_slot, 199);
    ck_assert_uint_eq(s.epoch.range, 6);
    ck_assert_uint_eq(s.version, 1000);
    ck_assert_uint_eq(s.time_ms, 6000);
}
END_TEST

/* ABORT before TARGET has come: the TARGET then finds its operator closed, and so does OWN. */
START_TEST(an_abort_closes_what_has_not_begun)
{
    struct shard s = shard_in(SHARD_PHASE_NONE);
    struct shard_change c = change_of(SHARD_MERGE_ABORT);
    ck_assert_int_eq(shard_change_apply(&s, &c, 50), ERR_OK);
    c = change_of(SHARD_MERGE_TARGET);
    ck_assert_int_eq(shard_change_apply(&s, &c, 51), ERR_REFUSED);
    c = change_of(SHARD_MERGE_OWN);
    ck_assert_int_eq(shard_change_apply(&s, &c, 52), ERR_REFUSED);
    c = change_of(SHARD_MERGE_TARGET);
    c.op = OP + 1;
    ck_assert_int_eq(shard_change_apply(&s, &c, 53), ERR_OK);
}
END_TEST

START_TEST(time_and_epoch_have_ends)
{
    struct shard s = shard_in(SHARD_PHASE_NONE);
    struct shard_change c = change_of(SHARD_SPLIT);
    c.time_ms = 10; /* a leader's clock that is behind */
    ck_assert_int_eq(shard_change_apply(&s, &c, 50), ERR_OK);
    ck_assert_uint_eq(s.time_ms, 5000);
    s = shard_in(SHARD_PHASE_NONE);
    s.epoch.range = c.epoch.range = UINT32_MAX;
    c.other.epoch.range = 0;
    ck_assert_int_eq(shard_change_apply(&s, &c, 50), ERR_REFUSED);
}
END_TEST

/* ---- bytes ---- */

START_TEST(bytes_there_and_back)
{
    for (uint8_t kind = SHARD_SPLIT; kind <= SHARD_PREPARE; kind++) {
        struct shard_change c = change_of(kind), back;
        struct buf b = {0}, again = {0};
        shard_change_encode(&c, &b);
        ck_assert(shard_change_is(buf_slice(&b)));
        ck_assert_int_eq(shard_change_decode(buf_slice(&b), &back), ERR_OK);
        ck_assert_uint_eq(back.kind, kind);
        ck_assert_uint_eq(back.op, OP);
        ck_assert_uint_eq(back.time_ms, 6000);
        ck_assert_uint_eq(back.other.group, c.other.group);
        ck_assert_uint_eq(back.other.n_replicas, c.other.n_replicas);
        ck_assert_uint_eq(back.source_version, c.source_version);
        shard_change_encode(&back, &again);
        ck_assert(slice_eq(buf_slice(&b), buf_slice(&again)));
        for (size_t n = 0; n < b.n; n++)
            ck_assert_int_eq(shard_change_decode(slice_of(b.p, n), &back), ERR_CORRUPT);
        buf_u8(&b, 0); /* more than there should be */
        ck_assert_int_eq(shard_change_decode(buf_slice(&b), &back), ERR_CORRUPT);
        buf_close(&b);
        buf_close(&again);
    }
}
END_TEST

static enum err decode_of(const struct shard_change *c)
{
    struct buf b = {0};
    struct shard_change back;
    shard_change_encode(c, &b);
    enum err e = shard_change_decode(buf_slice(&b), &back);
    buf_close(&b);
    return e;
}

START_TEST(malformed_ones_are_refused)
{
    struct buf b = {0};
    struct shard_change c = change_of(SHARD_MERGE_FREEZE), out;
    shard_change_encode(&c, &b);
    b.p[0] = 1; /* operations on keys */
    ck_assert(!shard_change_is(buf_slice(&b)));
    ck_assert_int_eq(shard_change_decode(buf_slice(&b), &out), ERR_FORMAT);
    b.p[0] = COMMAND_CHANGE_FORMAT;
    b.p[1] = 0;
    ck_assert_int_eq(shard_change_decode(buf_slice(&b), &out), ERR_CORRUPT);
    b.p[1] = SHARD_PREPARE + 1;
    ck_assert_int_eq(shard_change_decode(buf_slice(&b), &out), ERR_FORMAT);
    buf_close(&b);
    ck_assert(!shard_change_is(slice_of("", 0)));

    for (unsigned i = 0; i < 10; i++) {
        c = change_of(SHARD_SPLIT);
        switch (i) {
        case 0:
            c.op = 0;
            break;
        case 1:
            c.other.group = 0;
            break;
        case 2:
            c.other.first_slot = 200; /* first > last */
            break;
        case 3:
            c.other.last_slot = LIMIT_SLOTS;
            break;
        case 4:
            c.other.n_replicas = 0;
            break;
        case 5:
            c.other.replica[1].replica = 31; /* twice */
            break;
        case 6:
            c.other.replica[1].node = 1; /* two on one node */
            break;
        case 7:
            c.other.replica[0].replica = 0;
            break;
        case 8:
            c.other.replica[0].role = c.other.replica[1].role = 0; /* nobody votes */
            break;
        default:
            c.other.replica[0].role = 3;
            break;
        }
        ck_assert_msg(decode_of(&c) == ERR_CORRUPT, "case %u", i);
    }
}
END_TEST

/* Any bytes: no crash, and a shard that stays encodable. */
START_TEST(mutations_do_no_harm)
{
    struct rng rng;
    rng_seed(&rng, 1);
    for (unsigned i = 0; i < 50000; i++) {
        struct shard_change c = change_of((uint8_t)(1 + rng_below(&rng, 8))), back;
        struct buf b = {0};
        shard_change_encode(&c, &b);
        b.p[rng_below(&rng, b.n)] = (uint8_t)rng_next(&rng);
        if (shard_change_decode(buf_slice(&b), &back) == ERR_OK) {
            struct shard s = shard_in((uint8_t)rng_below(&rng, 4)), read;
            enum err e = shard_change_apply(&s, &back, 50);
            ck_assert(e == ERR_OK || e == ERR_WRONG_EPOCH || e == ERR_REFUSED);
            struct buf bytes = {0};
            shard_encode(&s, &bytes);
            struct cursor cur = cursor_of(buf_slice(&bytes));
            ck_assert_int_eq(shard_decode(&cur, &read), ERR_OK);
            assert_same(&s, &read);
            buf_close(&bytes);
        }
        buf_close(&b);
    }
}
END_TEST

/* What the release before merges wrote is read. */
START_TEST(shards_of_format_1)
{
    struct buf b = {0};
    struct shard s, want = shard_in(SHARD_PHASE_NONE);
    shard_encode(&want, &b);
    b.p[0] = 1;
    struct cursor c = cursor_of(slice_of(b.p, 45)); /* up to time_ms */
    ck_assert_int_eq(shard_decode(&c, &s), ERR_OK);
    assert_same(&s, &want);
    b.p[0] = 3;
    c = cursor_of(buf_slice(&b));
    ck_assert_int_eq(shard_decode(&c, &s), ERR_FORMAT);
    b.p[0] = 2;
    for (size_t n = 0; n < b.n; n++) {
        c = cursor_of(slice_of(b.p, n));
        ck_assert_int_eq(shard_decode(&c, &s), ERR_CORRUPT);
    }
    want.phase = SHARD_PHASE_TARGET; /* without a peer */
    buf_clear(&b);
    shard_encode(&want, &b);
    c = cursor_of(buf_slice(&b));
    ck_assert_int_eq(shard_decode(&c, &s), ERR_CORRUPT);
    buf_close(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shard_change");
    TCase *t = tcase_create("all");
    tcase_add_test(t, each_kind_in_each_phase);
    tcase_add_test(t, another_epoch_is_late);
    tcase_add_test(t, a_preparation_changes_nothing_but_time);
    tcase_add_test(t, another_operator_is_refused);
    tcase_add_test(t, splits_of_both_ends_and_of_wrong_ranges);
    tcase_add_test(t, merges_take_neighbours_only);
    tcase_add_test(t, own_wants_what_target_announced);
    tcase_add_test(t, an_abort_closes_what_has_not_begun);
    tcase_add_test(t, time_and_epoch_have_ends);
    tcase_add_test(t, bytes_there_and_back);
    tcase_add_test(t, malformed_ones_are_refused);
    tcase_add_test(t, mutations_do_no_harm);
    tcase_add_test(t, shards_of_format_1);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
