/* Token -> local id of one block, as models.features.vocabulary defines it: MISSING 0, OOV 1, tokens from 2. */
#ifndef CTRSERVE_TOKENS_H
#define CTRSERVE_TOKENS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MISSING 0
#define OOV 1
#define NUM_SPECIAL 2

/* The four arrays of a vocabulary, which may be memory-mapped, or feature hashing. */
typedef struct {
    const uint8_t *hashes;    /* uint64 [n], ascending; the arrays may be unaligned */
    const uint8_t *positions; /* int64 [n] */
    const uint8_t *ends;      /* int64 [n] */
    const uint8_t *text;      /* uint8 [text_bytes] */
    uint64_t n, text_bytes;
    uint32_t *index;  /* hashes whose top bits are i are at [index[i], index[i + 1]) */
    int shift;        /* leaves the top bits of a hash; 64: there is one bucket */
    uint64_t buckets; /* of feature hashing; 0 for a vocabulary */
} Block;

/* A token to look up. */
typedef struct {
    const Block *block;
    const uint8_t *text;
    uint32_t num_bytes;
    uint64_t hash;
    uint64_t at;   /* scratch: its place among the sorted hashes, then by frequency; NOWHERE once it is known to be OOV */
    int64_t start; /* the block's first row of the table */
    int64_t *row;  /* where the token's row of the table is written */
} Token;

/* Whether n bytes are equal; most names and tokens are too short for a call of memcmp to pay. */
static inline int is_equal(const uint8_t *a, const uint8_t *b, size_t n) {
    uint64_t x, y;
    uint32_t v, w;
    if (n > 16) return memcmp(a, b, n) == 0;
    if (n >= 8) {
        memcpy(&x, a, 8), memcpy(&y, b, 8);
        if (x != y) return 0;
        memcpy(&x, a + n - 8, 8), memcpy(&y, b + n - 8, 8);
        return x == y;
    }
    if (n >= 4) {
        memcpy(&v, a, 4), memcpy(&w, b, 4);
        if (v != w) return 0;
        memcpy(&v, a + n - 4, 4), memcpy(&w, b + n - 4, 4);
        return v == w;
    }
    return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

/* Build the index of a block's hashes, about four to a bucket; 0, or -1 without memory. */
int block_build_index(Block *block);

/* Write the row of each token whose text and hash are known. */
void find_tokens(Token *tokens, size_t count);

#endif
