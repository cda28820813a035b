// SPDX-License-Identifier: Apache-2.0
/* The store over files in memory: objects come back from many threads while one puts, a write that
 * fails is told and stays told, and a small cache gives what a large one does. */
#include "nx_blake3.h"
#include "nx_store.h"
#include "nx_test.h"
#include "toy_zstd.h"

#include <errno.h>
#include <pthread.h>

#define FILES   64u
#define OBJECTS 600u
#define READERS 3u

typedef struct memory_file {
    nx_file kind;
    uint64_t number;
    nx_bytes bytes;
} memory_file;

typedef struct memory {
    pthread_mutex_t lock;
    memory_file files[FILES];
    size_t count;
    size_t writes_left; /* before they fail; SIZE_MAX: never */
    size_t holes;
} memory;

static memory_file *look(memory *self, nx_file kind, uint64_t number)
{
    for (size_t i = 0; i < self->count; i++) {
        if (self->files[i].kind == kind && self->files[i].number == number) {
            return &self->files[i];
        }
    }
    return NULL;
}

static int memory_read(void *self, nx_file kind, uint64_t number, uint64_t at, void *ret,
                       size_t size)
{
    memory *all = self;

    pthread_mutex_lock(&all->lock);
    memory_file *file = look(all, kind, number);
    int code = file == NULL ? NX_EEMPTY : at + size > file->bytes.size ? NX_ECORRUPT : NX_OK;
    if (code == NX_OK && size > 0) {
        memcpy(ret, file->bytes.data + at, size);
    }
    pthread_mutex_unlock(&all->lock);
    return code;
}

static int memory_size(void *self, nx_file kind, uint64_t number, uint64_t *ret)
{
    memory *all = self;

    pthread_mutex_lock(&all->lock);
    memory_file *file = look(all, kind, number);
    *ret = file == NULL ? 0 : file->bytes.size;
    pthread_mutex_unlock(&all->lock);
    return file == NULL ? NX_EEMPTY : NX_OK;
}

static int memory_write(void *self, nx_file kind, uint64_t number, uint64_t at, const void *data,
                        size_t size)
{
    memory *all = self;
    int code = NX_OK;

    pthread_mutex_lock(&all->lock);
    memory_file *file = look(all, kind, number);
    if (all->writes_left == 0 || (file == NULL && all->count == FILES)) {
        errno = ENOSPC;
        code = NX_ESYS;
    } else {
        all->writes_left -= all->writes_left != SIZE_MAX;
        if (file == NULL) {
            file = &all->files[all->count++];
            *file = (memory_file){.kind = kind, .number = number};
        }
        all->holes += at > file->bytes.size; /* a pack grows at its end */
        file->bytes.size = at;
        nx_bytes_put(&file->bytes, data, size);
    }
    pthread_mutex_unlock(&all->lock);
    return code;
}

static int memory_sync(void *self)
{
    (void)self;
    return NX_OK;
}

static const nx_backing_verbs VERBS = {
    .read = memory_read,
    .size = memory_size,
    .write = memory_write,
    .sync = memory_sync,
};

static const nx_store_options OPTIONS = {
    .volume = {1, 2},
    .pack_bytes = 200000,
    .cache_bytes = 100000,
    .next_pack = 1,
    .next_segment = 1,
    .block_raw = 65536,
    .window = 65536,
    .depth = 3,
    .threads = 4,
    .level = 3,
    .delta_level = 3,
};

static nx_store *make(memory *files, const nx_store_options *options)
{
    nx_backing backing = {.verbs = &VERBS, .self = files};
    nx_store *store = NULL;

    *files = (memory){.writes_left = SIZE_MAX};
    pthread_mutex_init(&files->lock, NULL);
    CHECK_EQ(nx_store_open(&backing, &TOY, options, &store), NX_OK);
    return store;
}

static void end(nx_store *store, memory *files)
{
    nx_store_close(store);
    CHECK_EQ(files->holes, 0);
    for (size_t i = 0; i < files->count; i++) {
        nx_bytes_free(&files->files[i].bytes);
    }
    pthread_mutex_destroy(&files->lock);
}

/* The i-th object: rows of bytes, the first of which are those of object i - 1. */
static size_t object_of(size_t i, uint8_t *ret, uint8_t *ret_id)
{
    size_t size = 200 + i * 13 % 3000;
    nx_blake3_mode mode;

    for (size_t j = 0; j < size; j++) {
        ret[j] = (uint8_t)(j < 100 ? i / 10 : j / 9 + i);
    }
    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, ret, size, ret_id, NX_OBJECT_ID);
    return size;
}

static int put(nx_store *store, size_t i)
{
    uint8_t bytes[4096];
    uint8_t before[4096];
    uint8_t id[NX_OBJECT_ID];
    nx_base_range base = {.size = NX_CHUNK_MAX};
    size_t size = object_of(i, bytes, id);

    if (i > 0) {
        (void)object_of(i - 1, before, base.id);
    }
    return nx_store_put(store, NX_KIND_DATA, id, bytes, size, &base, i > 0 && i % 2 == 0);
}

static bool comes_back(nx_store *store, size_t i)
{
    uint8_t bytes[4096];
    uint8_t id[NX_OBJECT_ID];
    size_t size = object_of(i, bytes, id);
    nx_held held;

    if (nx_store_get(store, id, &held) != NX_OK) {
        return false;
    }
    bool same = held.size == size && memcmp(held.data, bytes, size) == 0;
    nx_store_release(store, &held);
    return same;
}

typedef struct reader {
    nx_store *store;
    uint64_t seed;
    size_t failures;
} reader;

static void *read_many(void *argument)
{
    reader *self = argument;

    for (size_t n = 0; n < 2000; n++) {
        self->failures += !comes_back(self->store, nx_test_random(&self->seed) % OBJECTS);
    }
    return NULL;
}

static void test_many_read(void)
{
    pthread_t threads[READERS];
    reader readers[READERS];
    memory files;
    nx_store *store = make(&files, &OPTIONS);

    for (size_t i = 0; i < OBJECTS; i++) {
        CHECK_EQ(put(store, i), NX_OK);
        if (i % 150 == 149) {
            CHECK_EQ(nx_store_flush(store), NX_OK);
        }
    }
    CHECK_EQ(nx_store_flush(store), NX_OK);
    CHECK(nx_store_count(store)->new_objects == OBJECTS);
    for (size_t i = 0; i < READERS; i++) {
        readers[i] = (reader){.store = store, .seed = i};
        CHECK_EQ(pthread_create(&threads[i], NULL, read_many, &readers[i]), 0);
    }
    for (size_t i = 0; i < READERS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK_EQ(readers[i].failures, 0);
    }
    end(store, &files);
}

/* Wherever the medium is full: put or flush says so, later calls say so too, nothing hangs. */
static void test_a_full_medium_is_told(void)
{
    for (size_t room = 0; room < 12; room++) {
        memory files;
        nx_store *store = make(&files, &OPTIONS);
        files.writes_left = room;
        int code = NX_OK;
        for (size_t i = 0; code == NX_OK && i < OBJECTS; i++) {
            code = put(store, i);
        }
        if (code == NX_OK) {
            code = nx_store_flush(store);
        }
        CHECK_EQ(code, NX_ESYS);
        CHECK_EQ(errno, ENOSPC);
        files.writes_left = SIZE_MAX;
        CHECK_EQ(nx_store_flush(store), NX_ESYS);
        end(store, &files);
    }
}

static void test_wrong_options_are_refused(void)
{
    nx_backing backing = {.verbs = &VERBS};
    nx_store_options options[] = {OPTIONS, OPTIONS, OPTIONS, OPTIONS, OPTIONS};
    nx_store *store;

    options[0].threads = 0;
    options[1].block_raw = NX_BLOCK_RAW_MAX + 1;
    options[2].depth = NX_BLOCK_DEPTH_MAX + 1;
    options[3].level = NX_ZSTD_LEVEL_MAX + 1;
    options[4].next_pack = 0;
    for (size_t i = 0; i < NX_ARRAY_COUNT(options); i++) {
        CHECK_EQ(nx_store_open(&backing, &TOY, &options[i], &store), NX_EINVAL);
    }
}

int main(void)
{
    test_many_read();
    test_a_full_medium_is_told();
    test_wrong_options_are_refused();
    TEST_MAIN_END();
}
