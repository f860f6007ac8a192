/* Bounds check of untrusted MessagePack before anything decodes it; finds a message's end without
 * copying or allocating.
 *
 * Why: msgpack-c 4.0.0 allocates arrays from the declared count, 155 bytes took 4 GB. Here depth is
 * at most LIMIT_MP_DEPTH, a declared count at most the bytes that could still come, elements in all
 * at most LIMIT_MP_ELEMENTS, the message at most `max` bytes.
 * Thread: any, pure. */
#ifndef WIRE_SKIM_H
#define WIRE_SKIM_H

#include "common/base/err.h"
#include "common/base/slice.h"

/* Length of the first value in `in`. ERR_OK: *n. ERR_INCOMPLETE: more bytes are needed; *n is a
 * lower bound of the whole length. ERR_TOO_LARGE: over `max`. ERR_BAD_REQUEST: malformed, too deep,
 * too many elements. For a message that arrives in pieces call it again when *n bytes are there:
 * the total cost stays linear in practice because the lower bound grows by declared lengths. */
MUST_USE enum err skim(struct slice in, size_t max, size_t *n);

#endif
