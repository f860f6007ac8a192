/* The ring of receive buffers. The kernel takes a buffer when bytes arrive, not when a receive is
 * asked for: ten thousand idle connections need none. A buffer goes back right after on_data. */
#include "common/io/uring_impl.h"

#include <stdlib.h>
#include <sys/mman.h>

#define RING_BYTES (URING_BUFFERS * sizeof(struct io_uring_buf))

bool uring_buffers_create(struct io *io)
{
    struct uring_buffers *b = &io->buffers;
    void *ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (ring == MAP_FAILED)
        return false;
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)ring,
        .ring_entries = URING_BUFFERS,
        .bgid = URING_BUFFER_GROUP,
    };
    if (io_uring_register_buf_ring(&io->ring, &reg, 0) != 0) {
        munmap(ring, RING_BYTES);
        return false;
    }
    b->ring = ring;
    b->memory = mem_alloc_aligned(4096, (size_t)URING_BUFFERS * URING_BUFFER_SIZE);
    io_uring_buf_ring_init(b->ring);
    for (unsigned i = 0; i < URING_BUFFERS; i++)
        io_uring_buf_ring_add(b->ring, uring_buffer(io, i), URING_BUFFER_SIZE, (unsigned short)i,
                              io_uring_buf_ring_mask(URING_BUFFERS), (int)i);
    io_uring_buf_ring_advance(b->ring, (int)URING_BUFFERS);
    return true;
}

/* After the queue's exit: until then the kernel may write into them. */
void uring_buffers_destroy(struct io *io)
{
    if (io->buffers.ring == NULL)
        return;
    munmap(io->buffers.ring, RING_BYTES);
    free(io->buffers.memory);
}

uint8_t *uring_buffer(struct io *io, unsigned id)
{
    return io->buffers.memory + (size_t)id * URING_BUFFER_SIZE;
}

void uring_buffer_return(struct io *io, unsigned id)
{
    io_uring_buf_ring_add(io->buffers.ring, uring_buffer(io, id), URING_BUFFER_SIZE,
                          (unsigned short)id, io_uring_buf_ring_mask(URING_BUFFERS), 0);
    io_uring_buf_ring_advance(io->buffers.ring, 1);
}
