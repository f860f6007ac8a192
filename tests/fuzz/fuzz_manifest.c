/* Decoder of snapshot manifests and of the stream's frames. The first byte says whether the closing
 * checksum is made right, so that the fuzzer gets behind it. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/raft/snapshot_manifest.h"
#include "common/raft/snapshot_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_names(const struct snapshot_manifest *m)
{
    for (uint32_t i = 0; i < m->n; i++) {
        CHECK(snapshot_name_ok(slice_str(m->files[i].name)));
        CHECK(i == 0 || strcmp(m->files[i - 1].name, m->files[i].name) < 0);
    }
}

/* What decodes encodes to the same bytes. */
static void manifest(struct slice in)
{
    struct snapshot_manifest m;
    struct buf again = {0};

    if (snapshot_manifest_decode(in, &m) != ERR_OK)
        return;
    check_names(&m);
    CHECK(snapshot_manifest_encode(&m, &again) == ERR_OK);
    CHECK(slice_eq(buf_slice(&again), in));
    buf_close(&again);
    snapshot_manifest_close(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snapshot_get g;
    struct snapshot_data d;
    struct snapshot_end e;
    struct buf b = {0};

    if (size < 1)
        return 0;
    buf_append(&b, data + 1, size - 1);
    if (data[0] % 2 == 0 && b.n >= 4) {
        uint32_t crc = crc32c(0, b.p, b.n - 4);
        b.n -= 4;
        buf_u32(&b, crc);
    }
    manifest(buf_slice(&b));
    if (snapshot_get_decode(buf_slice(&b), &g) == ERR_OK)
        CHECK(g.length > 0 && g.length <= SNAPSHOT_CHUNK_MAX);
    if (snapshot_data_decode(buf_slice(&b), &d) == ERR_OK)
        CHECK(d.bytes.n > 0 && d.bytes.p + d.bytes.n == b.p + b.n);
    if (snapshot_end_decode(buf_slice(&b), &e) == ERR_OK)
        CHECK(err_name(e.err) != NULL);
    buf_close(&b);
    return 0;
}
