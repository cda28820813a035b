// SPDX-License-Identifier: Apache-2.0
/* The paths of nx_ring.h that are seldom taken: format, check, resume, room, padding. */
#include "nx_ring.h"

int nx_ring_format(nx_ring_header *header, uint32_t header_bytes, uint64_t capacity, uint8_t kind,
                   uint8_t flags)
{
    if (capacity > NX_RING_CAPACITY_MAX) {
        return NX_ETOOBIG;
    }
    if (!nx_is_power_of_two(capacity) || capacity < NX_PAGE_SIZE_MIN ||
        !nx_is_power_of_two(header_bytes) || header_bytes < sizeof *header ||
        header_bytes > NX_RING_HEADER_BYTES_MAX || (kind != NX_RING_SPSC && kind != NX_RING_MPSC) ||
        (flags & ~NX_RING_REVOCABLE) != 0) {
        return NX_EINVAL;
    }
    header->magic = NX_RING_MAGIC;
    header->version = NX_RING_VERSION;
    header->kind = kind;
    header->flags = flags;
    header->header_bytes = header_bytes;
    header->capacity = capacity;
    header->producer_slots = kind == NX_RING_MPSC ? NX_RING_SLOTS : 0;
    return NX_OK;
}

int nx_ring_check_header(const uint8_t identity[64], uint64_t file_bytes, nx_ring *ret)
{
    uint64_t magic = nx_load_u64(identity);
    uint32_t version_kind_flags = nx_load_u32(identity + 8);
    uint32_t header_bytes = nx_load_u32(identity + 12);
    uint64_t capacity = nx_load_u64(identity + 16);
    uint8_t kind = (uint8_t)(version_kind_flags >> 16);
    uint8_t flags = (uint8_t)(version_kind_flags >> 24);

    if (magic != NX_RING_MAGIC || (version_kind_flags & 0xffff) != NX_RING_VERSION ||
        (kind != NX_RING_SPSC && kind != NX_RING_MPSC) || (flags & ~NX_RING_REVOCABLE) != 0 ||
        nx_load_u32(identity + 24) != (kind == NX_RING_MPSC ? NX_RING_SLOTS : 0) ||
        !nx_is_power_of_two(header_bytes) || header_bytes < sizeof(nx_ring_header) ||
        header_bytes > NX_RING_HEADER_BYTES_MAX || !nx_is_power_of_two(capacity) ||
        capacity < NX_PAGE_SIZE_MIN || capacity > NX_RING_CAPACITY_MAX ||
        file_bytes != header_bytes + capacity) {
        return NX_ECORRUPT;
    }
    *ret = (nx_ring){
        .mask = capacity - 1,
        .payload_max = (uint32_t)(capacity - 2 * NX_RING_WORD),
        .kind = kind,
        .flags = flags,
    };
    return NX_OK;
}

void nx_ring_bind(nx_ring *ring, nx_ring_header *header, uint8_t *data)
{
    ring->header = header;
    ring->data = data;
}

/* Whether `position` may be a head or a consumer position while the tail is `tail`. */
static bool is_reachable(const nx_ring *ring, uint64_t position, uint64_t tail)
{
    return (position & 7) == 0 && position - tail <= nx_ring_capacity(ring) - NX_RING_WORD;
}

static uint64_t high_water_step(const nx_ring *ring)
{
    return nx_ring_capacity(ring) / 64;
}

/* The full count of which `stamp` has the low 28 bits and `near` is not far away. */
static uint64_t widen_stamp(uint64_t stamp, uint64_t near)
{
    uint64_t ahead = (stamp - near) & NX_RING_STAMP_MASK;

    return ahead <= NX_RING_STAMP_MASK / 2 ? near + ahead
                                           : near + ahead - (NX_RING_STAMP_MASK + 1ull);
}

int nx_ring_resume_producer(nx_ring *ring)
{
    nx_ring_header *header = ring->header;
    uint64_t tail = atomic_load_explicit(&header->tail, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&header->head, memory_order_acquire);
    uint64_t records = atomic_load_explicit(&header->records_in, memory_order_relaxed);

    /* From the noted head over what was committed after the note. A consumer may be done with
     * that already, so the tail may be beyond the note, but nobody has overwritten it. */
    uint64_t noted = head;
    for (uint64_t word; (word = atomic_load_explicit(nx_ring_word_at(ring, head & ~7ull),
                                                     memory_order_acquire)) != 0;) {
        uint64_t size = (uint32_t)word;
        if (head == noted) {
            records = widen_stamp(word >> 32, records);
        }
        head += nx_ring_occupied(size);
        if (word != nx_ring_word(NX_RING_RECORD, records, size) ||
            !is_reachable(ring, head, noted)) {
            return NX_ECORRUPT;
        }
        records++;
    }
    if ((tail & 7) != 0 || !is_reachable(ring, head, tail)) {
        return NX_ECORRUPT;
    }
    ring->tail_seen = tail;
    ring->drops = atomic_load_explicit(&header->drops, memory_order_relaxed);
    ring->high_water_next =
        atomic_load_explicit(&header->high_water, memory_order_relaxed) + high_water_step(ring);
    ring->records_in = records;
    nx_ring_advance(ring, head, 0);
    return NX_OK;
}

int nx_ring_resume_consumer(nx_ring *ring)
{
    nx_ring_header *header = ring->header;
    uint64_t tail = atomic_load_explicit(&header->tail, memory_order_acquire);
    uint64_t position = atomic_load_explicit(&header->position, memory_order_acquire);
    uint64_t records = atomic_load_explicit(&header->records_out, memory_order_relaxed);

    if ((tail & 7) != 0 || !is_reachable(ring, position, tail)) {
        return NX_ECORRUPT;
    }
    ring->position = position;
    ring->published = tail;
    ring->records_out = records;
    uint64_t word = atomic_load_explicit(nx_ring_word_at(ring, position), memory_order_acquire);
    if (ring->kind == NX_RING_SPSC && word != 0) {
        ring->records_out = widen_stamp(word >> 32, records);
    }
    if (position != tail) {
        nx_ring_publish(ring);
    }
    return NX_OK;
}

int nx_ring_make_room(nx_ring *ring, uint64_t end)
{
    /* Pairs with the release in nx_ring_publish: the consumer is done with all before it. */
    uint64_t tail = atomic_load_explicit(&ring->header->tail, memory_order_acquire);

    if ((tail & 7) != 0 || !is_reachable(ring, ring->head, tail)) {
        return NX_ECORRUPT;
    }
    ring->tail_seen = tail;
    return end + NX_RING_WORD - tail <= nx_ring_capacity(ring) ? NX_OK : NX_EFULL;
}

void nx_ring_raise_high_water(nx_ring *ring, uint64_t end)
{
    uint64_t tail = atomic_load_explicit(&ring->header->tail, memory_order_acquire);
    uint64_t used = end - tail;
    uint64_t mark = atomic_load_explicit(&ring->header->high_water, memory_order_relaxed);

    /* Producers of an MPSC ring raise it together; an impossible tail raises nothing. */
    while (used > mark && used <= nx_ring_capacity(ring) &&
           !atomic_compare_exchange_weak_explicit(&ring->header->high_water, &mark, used,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    ring->high_water_next = (used > mark ? used : mark) + high_water_step(ring);
}

void nx_ring_publish(nx_ring *ring)
{
    nx_ring_header *header = ring->header;
    uint64_t consumed = ring->position - ring->published;

    atomic_store_explicit(&header->records_out, ring->records_out, memory_order_release);
    atomic_store_explicit(&header->position, ring->position, memory_order_release);
    if (ring->kind == NX_RING_MPSC) {
        /* Only after the position was stored: a consumer killed here must not find holes. The
         * compiler alone could reorder; what a killed core has stored, all cores see in order. */
        atomic_signal_fence(memory_order_seq_cst);
        __builtin_memset(ring->data + (ring->published & ring->mask), 0, consumed);
    }
    /* Pairs with the acquire in nx_ring_make_room and in nx_mpsc_claim. */
    atomic_store_explicit(&header->tail, ring->position, memory_order_release);
    ring->published = ring->position;
}

int nx_ring_peek_odd(nx_ring *ring, const uint8_t **ret, uint32_t *ret_size)
{
    /* Each turn but the last steps over padding, so the ring bounds the turns. */
    for (uint64_t turns = ring->mask / NX_RING_WORD; turns != 0; turns--) {
        uint64_t word =
            atomic_load_explicit(nx_ring_word_at(ring, ring->position), memory_order_acquire);
        uint32_t size = (uint32_t)word;
        uint64_t stamp = nx_ring_expected_stamp(ring);
        if (word == 0) {
            if (ring->position != ring->published) {
                nx_ring_publish(ring);
            }
            return NX_EEMPTY;
        }
        uint64_t end = ring->position + nx_ring_occupied(size);
        if (size > ring->payload_max || !is_reachable(ring, end, ring->published)) {
            return NX_ECORRUPT;
        }
        if (word == nx_ring_word(NX_RING_RECORD, stamp, size)) {
            *ret = ring->data + (ring->position & ring->mask) + NX_RING_WORD;
            *ret_size = size;
            return NX_OK;
        }
        if (ring->kind != NX_RING_MPSC || word != nx_ring_word(NX_RING_PADDING, stamp, size)) {
            return NX_ECORRUPT;
        }
        ring->position = end;
    }
    return NX_ECORRUPT;
}

static uint64_t load_counter(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void nx_ring_finish_stats(const nx_ring *ring, uint64_t head, uint64_t position, nx_ring_stats *ret)
{
    /* Read at different moments, or hostile: what cannot be is shown as 0. */
    if (ret->records_in > ret->records_out) {
        ret->waiting = ret->records_in - ret->records_out;
    }
    if (head > position && head - position <= nx_ring_capacity(ring)) {
        ret->waiting_bytes = head - position;
    }
    if (ret->waiting_bytes > ret->high_water) {
        ret->high_water = ret->waiting_bytes;
    }
}

void nx_ring_read_stats(const nx_ring *ring, nx_ring_stats *ret)
{
    const nx_ring_header *header = ring->header;
    nx_ring_stats stats = {0};
    uint64_t position = load_counter(&header->position);
    uint64_t head = load_counter(&header->head);

    stats.records_out = load_counter(&header->records_out);
    stats.records_in = load_counter(&header->records_in);
    stats.drops = load_counter(&header->drops);
    stats.losses = load_counter(&header->losses);
    stats.high_water = load_counter(&header->high_water);
    stats.wakes_lost = load_counter(&header->wakes_lost);
    nx_ring_finish_stats(ring, head, position, &stats);
    *ret = stats;
}
