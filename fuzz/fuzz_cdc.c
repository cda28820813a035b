// SPDX-License-Identifier: Apache-2.0
/* Chunker: whole, streamed, digested and threaded search give the definition's cuts, any level. */
#include "nx_blake3.h"
#include "plain_cdc.h"

static void check_stream(const nx_cdc *cdc, const uint8_t *data, size_t size, uint64_t step,
                         const uint64_t *want, size_t count)
{
    nx_cdc_stream stream;
    nx_cdc_list list = {0};

    nx_cdc_stream_init(&stream);
    for (size_t at = 0; at < size;) {
        step = step * 2862933555777941757u + 3037000493u;
        size_t part = 1 + (step >> 33) % (step >> 60 == 0 ? MOST : 300);
        part = part < size - at ? part : size - at;
        uint8_t *piece = exact_copy(data + at, part);
        NX_ASSERT(nx_cdc_stream_cuts(cdc, &stream, piece, part, &list) == NX_OK);
        free(piece);
        at += part;
    }
    NX_ASSERT(nx_cdc_stream_end(&stream) == size);
    bool rest = count > 0 && (list.count == 0 || list.items[list.count - 1].end < size);
    same_cuts(&list, want, count - rest);
    nx_cdc_list_free(&list);
}

static void check_digests(const nx_cdc *cdc, const uint8_t *data, size_t size, unsigned threads,
                          const uint64_t *want, size_t count)
{
    nx_cdc_list list = {0};
    nx_blake3_mode mode;
    uint8_t digest[NX_BLAKE3_OUT];

    if (threads != 0) {
        NX_ASSERT(nx_cdc_threaded(cdc, data, size, threads, false, &list) == NX_OK);
        same_cuts(&list, want, count);
        nx_cdc_list_free(&list);
    }
    NX_ASSERT((threads == 0 ? nx_cdc_digests(cdc, data, size, 0, size, &list)
                            : nx_cdc_threaded(cdc, data, size, threads, true, &list)) == NX_OK);
    same_cuts(&list, want, count);
    nx_blake3_mode_hash(&mode);
    for (size_t i = 0; i < count; i++) {
        size_t start = i == 0 ? 0 : want[i - 1];
        nx_blake3_digest(&mode, data + start, want[i] - start, digest, sizeof digest);
        NX_ASSERT(memcmp(digest, list.items[i].blake3, sizeof digest) == 0);
    }
    nx_cdc_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t bytes_size)
{
    nx_input in = {bytes, bytes_size};
    nx_simd levels[5];
    nx_cdc cdc;
    static uint64_t want[MOST / 2 + 1];
    size_t minimum = 60 + eat(&in, 2) % 4096, average = minimum + eat(&in, 2) % 8192;
    size_t maximum = average + eat(&in, 2), count = 0;
    size_t size = eat(&in, 3) % (eat(&in, 1) > 250 ? MOST : 8192);
    uint64_t seed = eat(&in, 1), how = eat(&in, 1);

    nx_cdc_profile profile = (how & 64) != 0 ? NX_CDC_NX1 : NX_CDC_FASTCDC2020;

    if (nx_cdc_init(profile, minimum, average, maximum, how >> 3 & 7, seed, &cdc) != NX_OK) {
        return 0;
    }
    uint8_t *data = stretch(&in, size);
    for (size_t at = 0; at < size; count++) {
        at += defined_cut(&cdc, data + at, size - at);
        want[count] = at;
    }
    check_parts(&cdc, data, size, want, count);
    check_stream(&cdc, data, size, how, want, count);
    for (unsigned i = levels_here(levels); i-- > 0;) { /* ends with scalar, which judges digests */
        nx_cdc_select(levels[i]);
        check_digests(&cdc, data, size, how % 8 == 0 ? 3 : 0, want, count);
    }
    free(data);
    return 0;
}
