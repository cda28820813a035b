// SPDX-License-Identifier: Apache-2.0
/* boost::lockfree::spsc_queue in shared memory, as loops that bench/native/ring.c calls. */
#include <cstddef>
#include <cstdint>

#if __has_include(<boost/lockfree/spsc_queue.hpp>)
#include <boost/lockfree/spsc_queue.hpp>
#include <new>

using queue = boost::lockfree::spsc_queue<std::uint64_t, boost::lockfree::capacity<4096>>;

static inline void relax()
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    asm volatile("" ::: "memory");
#endif
}

extern "C" std::size_t boost_bytes(void)
{
    return sizeof(queue);
}

extern "C" void boost_make(void *place)
{
    new (place) queue;
}

extern "C" void boost_push(void *place, std::uint64_t count)
{
    auto &q = *static_cast<queue *>(place);
    for (std::uint64_t i = 0; i < count; i++) {
        while (!q.push(i)) {
            relax();
        }
    }
}

extern "C" std::uint64_t boost_pop(void *place, std::uint64_t count)
{
    auto &q = *static_cast<queue *>(place);
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < count; i++) {
        std::uint64_t value;
        while (!q.pop(value)) {
            relax();
        }
        sum += value;
    }
    return sum;
}
#else
extern "C" std::size_t boost_bytes(void)
{
    return 0; /* apt-get install libboost-dev */
}

extern "C" void boost_make(void *)
{
}

extern "C" void boost_push(void *, std::uint64_t)
{
}

extern "C" std::uint64_t boost_pop(void *, std::uint64_t)
{
    return 0;
}
#endif
