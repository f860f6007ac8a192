/* Every bound of the system in one place. Full means an error (BUSY, TOO_LARGE), never growth. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#define KIB (1024ULL)
#define MIB (1024ULL * KIB)
#define GIB (1024ULL * MIB)
#define NS_PER_US (1000ULL)
#define NS_PER_MS (1000ULL * NS_PER_US)
#define NS_PER_S (1000ULL * NS_PER_MS)

/* data */
#define LIMIT_SLOTS 16384u
#define LIMIT_KEY (4 * KIB)
#define LIMIT_VALUE_DEFAULT (1 * MIB)
#define LIMIT_VALUE_MAX (8 * MIB)

/* wire */
#define LIMIT_FRAME (LIMIT_VALUE_MAX + 64 * KIB) /* one client message */
#define LIMIT_MP_DEPTH 16                        /* nesting of MessagePack */
#define LIMIT_MP_ELEMENTS (1u << 20)             /* elements of one message */
#define LIMIT_PEER_FRAME (32 * MIB)              /* one batch of raft messages */
#define LIMIT_BATCH 1024u                        /* items of one mget or batch */
#define LIMIT_MGET_ANSWER (8 * MIB)              /* values of one mget's answer, if more than one */
#define LIMIT_CONN_OUT (32 * MIB)                /* unsent reply bytes of one connection */
#define LIMIT_CONNS_HELD (128 * MIB)             /* unsent and half-received, all of a core */
#define LIMIT_CONN_CROWDED (256 * KIB)           /* unsent of one connection beyond that */
#define LIMIT_CONN_PARTIAL_NS (10 * NS_PER_S)    /* half a frame, then silence: closed */
#define LIMIT_CONNECTIONS 16384u                 /* client connections of a core */
#define LIMIT_CONN_REQUESTS 1024u                /* unanswered requests of one connection */

/* core */
#define LIMIT_CORES 64u
#define LIMIT_CORE_REQUESTS (64u * 1024u)     /* unanswered requests of a core: then BUSY */
#define LIMIT_CORE_REQUEST_BYTES (256 * MIB)  /* their keys and values */
#define LIMIT_GROUP_INFLIGHT_BYTES (32 * MIB) /* proposed, not yet applied, one group */
#define LIMIT_MAILBOX (128u * 1024u)
#define LIMIT_OFFLOAD_QUEUE 4096u

/* exactly-once */
#define LIMIT_SESSION_RESULTS 8192u         /* results kept of one session in one shard */
#define LIMIT_SHARD_RESULTS (1024u * 1024u) /* of all sessions in one shard: then BUSY */
#define LIMIT_SHARD_SESSIONS (64u * 1024u)  /* sessions of one shard: then BUSY */

/* raft */
#define LIMIT_GROUPS_PER_NODE 16384u
#define LIMIT_GROUP_MEMBERS 9u
#define LIMIT_RAFT_INFLIGHT_ENTRIES 256u
#define LIMIT_ENTRY (LIMIT_VALUE_MAX + 1 * MIB) /* one packed entry */
#define LIMIT_APPEND_BYTES (4 * MIB)            /* entries of one AppendEntries, if more than one */
#define LIMIT_MANIFEST (4 * MIB)

/* wal */
#define LIMIT_WAL_SEGMENT_DEFAULT (64 * MIB)
#define LIMIT_WAL_COMMIT (16 * MIB) /* one write; a larger turn takes several */

/* placement */
#define LIMIT_NODES 4096u
#define LIMIT_NAME 63u /* node, cluster, zone and host names */

#endif
