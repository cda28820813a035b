// SPDX-License-Identifier: Apache-2.0
/*
 * Power cuts: the medium loses its power inside each program and each erase of each operation, in
 * every manner that the emulator knows. What is mounted then must be sound, must be one of the
 * states since the last sync, and must be fit for use, with another cut in that.
 *
 * Arguments: how many random clients (default 6 a medium), first seed, depth of the exhaustive
 * part.
 */
#include <time.h>

#include "nexfs_rig.h"

#define SLOTS 8u
#define STEPS 400u /* enough for both cleaners to go round on the small medium */
#define SUMS  64u  /* states between two syncs */
#define AFTER 3u   /* steps of the client that goes on after a cut */

static rig_memory live, again;

/* A mounted volume that can be copied, medium and all. */
typedef struct {
    nx_flash_sim *sim;
    nx_nexfs fs;
    nx_nexfs_slot slots[SLOTS];
    uint8_t nodes[SLOTS * 512];
    uint8_t buffer[8192];
} snapshot;

typedef struct {
    uint64_t sums[SUMS]; /* of the states that may be found, the newest last */
    uint32_t count;
    uint64_t cuts, cycles, losses;
    uint64_t random;
    bool strict; /* the canary: pretends that an operation is durable without a sync */
} rig;

static void take(snapshot *s, nx_flash_sim *sim, const nx_nexfs *fs)
{
    CHECK_EQ(nx_flash_sim_fork(sim, &s->sim), NX_OK);
    s->fs = *fs;
    memcpy(s->slots, live.slots, sizeof s->slots);
    memcpy(s->nodes, live.nodes, sizeof s->nodes);
    memcpy(s->buffer, live.buffer, sizeof s->buffer);
}

static nx_flash_sim *restore(const snapshot *s, nx_nexfs *ret)
{
    nx_flash_sim *sim = NULL;

    CHECK_EQ(nx_flash_sim_fork(s->sim, &sim), NX_OK);
    *ret = s->fs;
    ret->flash = nx_flash_sim_medium(sim);
    memcpy(live.slots, s->slots, sizeof s->slots);
    memcpy(live.nodes, s->nodes, sizeof s->nodes);
    memcpy(live.buffer, s->buffer, sizeof s->buffer);
    return sim;
}

static bool allowed(const rig *r, uint64_t sum)
{
    for (uint32_t i = r->strict ? r->count - 1 : 0; i < r->count; i++) {
        if (r->sums[i] == sum) {
            return true;
        }
    }
    return false;
}

/* Mounts after a cut: a state that may be, without a problem. */
static bool recovered(rig *r, nx_flash_sim *sim, nx_nexfs *fs, bool writable)
{
    nx_nexfs_memory lent = rig_lend(&again, SLOTS, 512);
    uint64_t sum = 0;
    int code;

    r->cycles++;
    nx_flash_sim_power_on(sim);
    code = nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, writable, fs);
    if (code != NX_OK || !rig_volume_sum(fs, NX_NEXFS_ROOT, 0, 0, &sum) || !allowed(r, sum)) {
        if (!r->strict) {
            fprintf(stderr, "mount %d sum %llx\n", code, (unsigned long long)sum);
        }
        return false;
    }
    return rig_sound(fs) && nx_flash_sim_counters_of(sim)->breaches == 0;
}

/* A client goes on with the volume; it may be cut, too. */
static bool fit_for_use(rig *r, nx_flash_sim *sim, nx_nexfs *fs, uint32_t window)
{
    uint64_t before = nx_flash_sim_counters_of(sim)->mutations, random = r->random;
    nx_flash_sim_plan plan = {.mutation = before + 1 + nx_test_random(&r->random) % 6,
                              .weak_bits = 20,
                              .unstable_reads = 3};
    uint64_t sum = 0, inode;
    int code = NX_OK;

    if (nx_test_random(&r->random) % 2 == 0) {
        nx_flash_sim_plan_cut(sim, &plan);
    }
    rig_volume_sum(fs, NX_NEXFS_ROOT, 0, 0, &sum);
    r->sums[0] = sum;
    r->count = 1;
    for (uint32_t i = 0; i < AFTER && code == NX_OK; i++) {
        char name[16] = {'x', (char)('0' + i)};
        static uint8_t bytes[RIG_BYTES];
        uint32_t size = i == 1 ? window : 20;
        rig_fill(bytes, size, random + i);
        sum += nx_xxh3_64(bytes, 0, rig_path(0, name, 2));
        r->sums[r->count++] = sum;
        code = nx_nexfs_create(fs, NX_NEXFS_ROOT, name, 2, NX_NEXFS_FILE, &inode);
        if (code == NX_OK) {
            sum += nx_xxh3_64(bytes, size, rig_path(0, name, 2)) -
                   nx_xxh3_64(bytes, 0, rig_path(0, name, 2));
            r->sums[r->count++] = sum;
            code = nx_nexfs_write(fs, inode, 0, bytes, size);
        }
        code = code != NX_OK ? code : nx_nexfs_sync(fs);
        if (code == NX_OK) {
            r->sums[0] = sum;
            r->count = 1;
        }
    }
    if (code != NX_OK && code != NX_EFAULT && code != NX_EFULL) {
        fprintf(stderr, "after the cut: %d\n", code);
        return false;
    }
    if (nx_flash_sim_powered(sim)) {
        nx_flash_sim_plan_cut(sim, &(nx_flash_sim_plan){0});
        nx_flash_sim_power_off(sim);
    }
    return recovered(r, sim, fs, false);
}

/* Cuts inside each mutation of one step; `s` is the volume before it. */
static void cut_step(rig *r, const snapshot *s, const rig_state *state, const rig_step *step,
                     uint64_t mutations, uint32_t window)
{
    uint64_t start = nx_flash_sim_counters_of(s->sim)->mutations;

    for (uint64_t i = 1; i <= mutations; i++) {
        nx_flash_sim_plan plan = {.mutation = start + i,
                                  .mode = (uint8_t)(nx_test_random(&r->random) % NX_FLASH_CUT_OOB),
                                  .weak_bits = 20,
                                  .unstable_reads = 3};
        uint64_t kept[SUMS];
        uint32_t count = r->count;
        nx_nexfs fs;
        nx_flash_sim *sim = restore(s, &fs);
        bool good;
        memcpy(kept, r->sums, sizeof kept);
        nx_flash_sim_seed(sim, r->random);
        nx_flash_sim_plan_cut(sim, &plan);
        rig_perform(&fs, state, step);
        r->cuts++;
        good = !nx_flash_sim_powered(sim) && recovered(r, sim, &fs, true) &&
               (r->strict || fit_for_use(r, sim, &fs, window));
        if (!good && !r->strict) {
            char line[200] = "";
            nx_flash_sim_explain(nx_flash_sim_breach_of(sim), line, sizeof line);
            fprintf(stderr, "lost: op %d mutation %llu of %llu mode %d; %s\n", step->op,
                    (unsigned long long)i, (unsigned long long)mutations, plan.mode, line);
        }
        r->losses += !good;
        memcpy(r->sums, kept, sizeof kept);
        r->count = count;
        nx_flash_sim_destroy(sim);
    }
}

static nx_flash_sim *fresh(rig_medium medium, uint64_t seed, nx_nexfs *ret)
{
    nx_flash_sim_model model = rig_model(medium, seed);
    nx_nexfs_format_options options = rig_options(medium);
    nx_nexfs_memory lent = rig_lend(&live, SLOTS, 512);
    nx_flash_sim *sim = NULL;

    CHECK_EQ(nx_flash_sim_create(&model, &sim), NX_OK);
    CHECK_EQ(nx_nexfs_format(nx_flash_sim_medium(sim), &lent, &options, ret), NX_OK);
    CHECK_EQ(nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, true, ret), NX_OK);
    return sim;
}

/* One step on volume and model, with all its cuts. */
static bool step_with_cuts(rig *r, nx_flash_sim *sim, nx_nexfs *fs, rig_state *state,
                           const rig_step *step, uint32_t window)
{
    static rig_state after;
    static snapshot s;
    uint64_t before = nx_flash_sim_counters_of(sim)->mutations, mutations;
    int want, got;

    after = *state;
    want = rig_apply(&after, step);
    if (want == NX_ETOOBIG) {
        return true;
    }
    take(&s, sim, fs);
    got = rig_perform(fs, state, step);
    mutations = nx_flash_sim_counters_of(sim)->mutations - before;
    r->sums[r->count++] = rig_state_sum(want == NX_OK ? &after : state);
    if (mutations > 0) {
        static snapshot running;
        nx_flash_sim *same;
        take(&running, sim, fs);
        cut_step(r, &s, state, step, mutations, window);
        same = restore(&running, fs); /* what is in memory */
        fs->flash = nx_flash_sim_medium(sim);
        nx_flash_sim_destroy(same);
        nx_flash_sim_destroy(running.sim);
    }
    nx_flash_sim_destroy(s.sim);
    if (got == want && step->op == RIG_SYNC) {
        r->sums[0] = r->sums[r->count - 1];
        r->count = 1;
    }
    *state = want == NX_OK ? after : *state;
    if (step->op == RIG_SYNC) { /* what is to be found after a cut is there without one */
        uint64_t sum = 0;
        CHECK(rig_volume_sum(fs, NX_NEXFS_ROOT, 0, 0, &sum) && sum == rig_state_sum(state));
    }
    return got == want;
}

static void random_client(rig *r, rig_medium medium, uint64_t seed)
{
    static rig_state state;
    uint32_t window = 1u << rig_options(medium).window_log2;
    uint64_t random = seed;
    nx_nexfs fs;
    nx_flash_sim *sim = fresh(medium, seed, &fs);
    bool good = true;

    memset(&state, 0, sizeof state);
    r->random = seed;
    r->sums[0] = 0;
    r->count = 1;
    for (uint32_t i = 0; i < STEPS && good; i++) {
        rig_step step = rig_random(&state, &random, window);
        step.op = r->count + 2 >= SUMS ? RIG_SYNC : step.op;
        good = step_with_cuts(r, sim, &fs, &state, &step, window);
    }
    if (!good || r->losses > 0) {
        r->losses += !good;
        if (!r->strict) {
            fprintf(stderr, "medium %d: test_nexfs_cut 1 %llu\n", medium, (unsigned long long)seed);
        }
    }
    nx_flash_sim_destroy(sim);
}

/* All sequences of so many operations of an alphabet, each cut everywhere. */
static void exhaustive(rig *r, nx_flash_sim *sim, const nx_nexfs *fs, const rig_state *state,
                       unsigned depth, uint32_t window)
{
    const rig_step alphabet[] = {
        {.op = RIG_CREATE, .item = 2},
        {.op = RIG_WRITE, .item = 0, .size = 100, .offset = 10, .seed = 5},
        {.op = RIG_WRITE, .item = 0, .size = window, .seed = 7},
        {.op = RIG_TRUNCATE, .item = 0, .size = 7},
        {.op = RIG_RENAME, .item = 0, .target = 1},
        {.op = RIG_RENAME, .item = 0, .target = 2, .to_parent = 1},
        {.op = RIG_UNLINK, .item = 1},
        {.op = RIG_LINK, .item = 0, .target = 2},
        {.op = RIG_MKDIR, .item = 3},
        {.op = RIG_SYNC},
    };

    for (size_t i = 0; i < NX_ARRAY_COUNT(alphabet); i++) {
        rig_state next = *state;
        rig before = *r;
        snapshot *s = malloc(sizeof *s);
        nx_nexfs mine;
        nx_flash_sim *fork;
        const rig_step last = {.op = RIG_SYNC};
        take(s, sim, fs);
        fork = restore(s, &mine);
        if (!step_with_cuts(r, fork, &mine, &next, &alphabet[i], window)) {
            r->losses++;
        }
        if (depth > 1) {
            exhaustive(r, fork, &mine, &next, depth - 1, window);
        } else if (!step_with_cuts(r, fork, &mine, &next, &last, window)) {
            r->losses++;
        }
        nx_flash_sim_destroy(fork);
        fork = restore(s, &mine); /* the memory as it was */
        nx_flash_sim_destroy(fork);
        nx_flash_sim_destroy(s->sim);
        free(s);
        memcpy(r->sums, before.sums, sizeof r->sums);
        r->count = before.count;
    }
}

static void all_sequences(rig *r, rig_medium medium, unsigned depth)
{
    static rig_state state;
    const rig_step first[] = {
        {.op = RIG_MKDIR, .item = 4},
        {.op = RIG_CREATE, .item = 0},
        {.op = RIG_CREATE, .item = 1},
        {.op = RIG_WRITE, .item = 0, .size = 150, .seed = 1},
        {.op = RIG_SYNC},
    };
    nx_nexfs fs;
    nx_flash_sim *sim = fresh(medium, 9, &fs);

    memset(&state, 0, sizeof state);
    for (size_t i = 0; i < NX_ARRAY_COUNT(first); i++) {
        CHECK_EQ(rig_perform(&fs, &state, &first[i]), NX_OK);
        CHECK_EQ(rig_apply(&state, &first[i]), NX_OK);
    }
    r->sums[0] = rig_state_sum(&state);
    r->count = 1;
    exhaustive(r, sim, &fs, &state, depth, 1u << rig_options(medium).window_log2);
    nx_flash_sim_destroy(sim);
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t clients = argc > 1 ? strtoull(argv[1], NULL, 0) : 6;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    unsigned depth = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 2;
    static rig canary = {.strict = true};

    for (rig_medium medium = 0; medium < RIG_MEDIA; medium++) {
        static rig r;
        double start = seconds();
        memset(&r, 0, sizeof r);
        for (uint64_t i = 0; i < clients; i++) {
            random_client(&r, medium, seed + i);
        }
        if (depth > 0) {
            all_sequences(&r, medium, depth);
        }
        printf("medium %d: %llu cuts, %llu lost, %.0f mounts and checks a second\n", medium,
               (unsigned long long)r.cuts, (unsigned long long)r.losses,
               (double)r.cycles / (seconds() - start));
        CHECK_EQ(r.losses, 0);
        CHECK(r.cuts > 0);
    }
    random_client(&canary, RIG_NAND, 1);
    CHECK(canary.losses > 0); /* what was not synced must have been missing somewhere */
    TEST_MAIN_END();
}
