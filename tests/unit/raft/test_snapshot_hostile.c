/* The other end of a snapshot's stream misbehaves, as its receiver or as its sender. */
#include "tests/unit/raft/snapshot_world.h"

struct raw {
    struct conn *c;
    struct buf got; /* bodies of DATA and END are only counted */
    unsigned data, end;
    enum err end_err;
    bool reading;
};

static enum err raw_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return frame_split(data, SNAPSHOT_FRAME_MAX, n);
}

static void raw_message(void *arg, struct slice message)
{
    struct raw *r = arg;
    struct slice body;
    struct snapshot_end e;
    uint8_t type;

    ck_assert_int_eq(frame_decode(message, &type, &body), ERR_OK);
    r->data += type == FRAME_SNAPSHOT_DATA;
    if (type == FRAME_SNAPSHOT_END) {
        ck_assert_int_eq(snapshot_end_decode(body, &e), ERR_OK);
        r->end++;
        r->end_err = e.err;
    }
}

static void raw_end(void *arg, enum err why)
{
    (void)arg;
    (void)why;
    w.pending--;
}

static const struct conn_ops raw_ops = {
    .split = raw_split, .on_message = raw_message, .on_end = raw_end};

/* Sends the frames behind a good HELLO and waits for the end of the connection. */
static struct raw talk(struct slice frames)
{
    struct raw r = {0};
    struct peer_hello h = hello_of(2);

    h.to = 1;
    h.core = 3;
    h.purpose = PEER_SNAPSHOT;
    r.c = conn_connect(w.conns, &w.addr, &raw_ops, &r);
    peer_hello_encode(conn_out(r.c), &h);
    buf_append(conn_out(r.c), frames.p, frames.n);
    w.pending++;
    run_all();
    return r;
}

START_TEST(hostile_requests_are_refused)
{
    struct buf b = {0};
    struct raw r;
    struct snapshot_server_stats s;

    make();
    struct snapshot_get bad[] = {
        {.id = w.id, .file = FILES, .offset = 0, .length = 1},
        {.id = w.id, .file = UINT32_MAX, .offset = 0, .length = 1},
        {.id = w.id, .file = 6, .offset = sizes[6], .length = 1},
        {.id = w.id, .file = 6, .offset = UINT64_MAX, .length = 2},
        {.id = w.id, .file = 6, .offset = sizes[6] - 1, .length = 2},
        {.id = w.id, .file = 0, .offset = 0, .length = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_clear(&b);
        snapshot_put_get(&b, &bad[i]);
        r = talk(buf_slice(&b));
        ck_assert_uint_eq(r.data, 0);
        ck_assert_uint_eq(r.end, 1);
        ck_assert_int_eq(r.end_err, ERR_BAD_REQUEST);
    }
    struct snapshot_get none = {.id = w.id + 1, .file = 0, .offset = 0, .length = 1};
    buf_clear(&b);
    snapshot_put_get(&b, &none);
    ck_assert_int_eq(talk(buf_slice(&b)).end_err, ERR_NOT_FOUND);
    /* A length over the limit, a wrong frame, damage, too many at once: cut off. */
    struct snapshot_get large = {.id = w.id, .file = 6, .length = SNAPSHOT_CHUNK_MAX + 1};
    buf_clear(&b);
    snapshot_put_get(&b, &large);
    ck_assert_uint_eq(talk(buf_slice(&b)).end, 0);
    buf_clear(&b);
    frame_finish(&b, frame_begin(&b, FRAME_MESSAGES));
    ck_assert_uint_eq(talk(buf_slice(&b)).end, 0);
    struct snapshot_get good = {.id = w.id, .file = 6, .offset = 0, .length = 4096};
    buf_clear(&b);
    snapshot_put_get(&b, &good);
    b.p[b.n - 1] ^= 1;
    ck_assert_uint_eq(talk(buf_slice(&b)).end, 0);
    buf_clear(&b);
    for (unsigned i = 0; i < 2 * SNAPSHOT_WINDOW; i++)
        snapshot_put_get(&b, &good);
    r = talk(buf_slice(&b));
    ck_assert_uint_lt(r.data, 2 * SNAPSHOT_WINDOW);
    snapshot_server_stats(w.server, &s);
    ck_assert_uint_eq(s.violations, 4);
    buf_close(&b);
}
END_TEST

START_TEST(an_idle_receiver_is_shown_out)
{
    make();
    w.server_options.idle_ns = 100 * NS_PER_MS;
    restart_server();
    struct raw r = talk(slice_str(""));
    ck_assert_uint_eq(r.end, 0);
}
END_TEST

/* A sender that lies: takes any HELLO and GET and answers each with the frames set here. */
static struct buf lie;
static bool lie_cut;

static void liar_message(void *arg, struct slice message)
{
    struct raw *r = arg;
    struct slice body;
    uint8_t type;

    ck_assert_int_eq(frame_decode(message, &type, &body), ERR_OK);
    if (type != FRAME_SNAPSHOT_GET)
        return;
    buf_append(conn_out(r->c), lie.p, lie.n);
    if (lie_cut)
        conn_close(r->c);
}

static void liar_end(void *arg, enum err why)
{
    (void)why;
    free(arg);
}

static const struct conn_ops liar_ops = {
    .split = raw_split, .on_message = liar_message, .on_end = liar_end};

static void liar_accept(void *arg, int handle, const struct io_addr *from)
{
    struct raw *r = mem_zalloc(sizeof *r);

    (void)arg;
    (void)from;
    ck_assert_int_eq(conn_adopt(w.server_conns, handle, &liar_ops, r, &r->c), ERR_OK);
}

START_TEST(a_lying_sender_is_given_up)
{
    static uint8_t bytes[64 * KIB];

    make();
    io_listener_close(w.listener);
    ck_assert_int_eq(io_listen(w.io, &w.addr, liar_accept, NULL, &w.listener), ERR_OK);
    struct snapshot_data data[] = {
        {.id = w.id + 1, .file = 1, .bytes = slice_of(bytes, 1)},
        {.id = w.id, .file = 2, .bytes = slice_of(bytes, 1)},
        {.id = w.id, .file = 1, .offset = 1, .bytes = slice_of(bytes, 1)},
        {.id = w.id, .file = 1, .bytes = slice_of(bytes, 2)},
    };
    for (size_t i = 0; i < sizeof data / sizeof *data + 3; i++) {
        struct snapshot_fetch_options o = fetch_options("receiver");
        enum err want = ERR_CORRUPT;
        o.give_up_ns = 300 * NS_PER_MS;
        o.timeout_ns = 100 * NS_PER_MS;
        buf_clear(&lie);
        lie_cut = false;
        if (i < sizeof data / sizeof *data) {
            snapshot_put_data(&lie, &data[i]);
        } else if (i == sizeof data / sizeof *data) {
            want = ERR_TIMEOUT; /* says nothing */
        } else if (i == sizeof data / sizeof *data + 1) {
            buf_append(&lie, "this is no frame at all", 23);
            want = ERR_BAD_REQUEST;
        } else {
            lie_cut = true;
            want = ERR_CLOSED;
        }
        start_fetch(&o);
        run_all();
        ck_assert_msg(w.fetched[0] == want, "%zu: %s", i, err_name(w.fetched[0]));
        ck_assert_uint_eq(w.last.bytes_received, 0);
    }
    buf_close(&lie);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, hostile_requests_are_refused);
    tcase_add_test(t, an_idle_receiver_is_shown_out);
    tcase_add_test(t, a_lying_sender_is_given_up);
}

int main(void)
{
    return snapshot_world_main("snapshot_hostile", add_tests);
}
