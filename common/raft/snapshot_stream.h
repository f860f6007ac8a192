/* Snapshot files from node to node, out of band of Raft: the front door to both ends.
 *
 * The receiver pulls (snapshot_fetch.h), the sender answers (snapshot_serve.h) from its store
 * (snapshot_store.h); snapshot_wire.h has the frames. Over a connection of its own, so that bulk
 * never delays Raft's messages.
 *
 *   leader                                              follower
 *   snapshot_wanted -> snapshot_store_make
 *      -> group_offer_snapshot(manifest) -- InstallSnapshot --> install -> snapshot_fetch
 *   peer on_hello -> snapshot_serve        <-- GET, DATA -->       -> done(ERR_OK, path)
 *                                          <-- END                 swap in, group_installed
 */
#ifndef RAFT_SNAPSHOT_STREAM_H
#define RAFT_SNAPSHOT_STREAM_H

#include "common/raft/snapshot_fetch.h"
#include "common/raft/snapshot_serve.h"
#include "common/raft/snapshot_store.h"

#endif
