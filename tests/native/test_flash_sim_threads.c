// SPDX-License-Identifier: Apache-2.0
/* Forks of one flash device in several threads: each sees its own, and the sanitizer no race. */
#include <pthread.h>
#include <string.h>

#include "nx_flash_sim.h"
#include "nx_test.h"

#define BLOCK   4096u
#define PAGE    256u
#define BLOCKS  64u
#define THREADS 4u
#define ROUNDS  300u

typedef struct branch {
    nx_flash_sim *origin; /* of this thread; its parts are the whole family's */
    uint8_t byte;
    unsigned wrong;
} branch;

static bool is_byte(nx_flash_sim *sim, uint64_t at, uint8_t byte)
{
    uint8_t bytes[PAGE];
    uint32_t flips;

    return nx_flash_sim_medium(sim)->verbs->read(sim, at, bytes, PAGE, &flips) == NX_OK &&
           bytes[0] == byte && memcmp(bytes, bytes + 1, PAGE - 1) == 0;
}

static void *work(void *argument)
{
    branch *of = argument;
    uint64_t seed = of->byte;
    uint8_t page[PAGE];

    memset(page, of->byte, PAGE);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t at = nx_test_random(&seed) % BLOCKS * BLOCK;
        nx_flash_sim *sim;
        if (nx_flash_sim_fork(of->origin, &sim) != NX_OK) {
            of->wrong++;
            continue;
        }
        const nx_flash_verbs *verbs = nx_flash_sim_medium(sim)->verbs;
        of->wrong += !is_byte(sim, at, 0x55);
        of->wrong += verbs->erase(sim, at) != NX_OK;
        of->wrong += verbs->program(sim, at, page, PAGE) != NX_OK;
        of->wrong += !is_byte(sim, at, of->byte);
        of->wrong += !is_byte(sim, (at + BLOCK) % (BLOCKS * BLOCK), 0x55);
        nx_flash_sim_destroy(sim);
        of->wrong += !is_byte(of->origin, at, 0x55);
    }
    nx_flash_sim_destroy(of->origin);
    return NULL;
}

int main(void)
{
    nx_flash_sim_model model = {
        .geometry = {.size = BLOCKS * BLOCK,
                     .block_size = BLOCK,
                     .page_size = PAGE,
                     .programs = 1,
                     .kind = NX_FLASH_NAND,
                     .erased = 0xff},
        .rules = NX_FLASH_RULE_ALL,
    };
    nx_flash_sim *whole = NULL;
    uint8_t data[BLOCK];
    pthread_t threads[THREADS];
    branch branches[THREADS];

    memset(data, 0x55, sizeof data);
    CHECK_EQ(nx_flash_sim_create(&model, &whole), NX_OK);
    for (uint32_t at = 0; at < BLOCKS * BLOCK; at += BLOCK) {
        CHECK_EQ(nx_flash_sim_medium(whole)->verbs->program(whole, at, data, BLOCK), NX_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        branches[i] = (branch){.byte = (uint8_t)(i + 1)};
        CHECK_EQ(nx_flash_sim_fork(whole, &branches[i].origin), NX_OK);
    }
    nx_flash_sim_destroy(whole);
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, work, &branches[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK_EQ(branches[i].wrong, 0);
    }
    TEST_MAIN_END();
}
