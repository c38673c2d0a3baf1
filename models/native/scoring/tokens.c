#include "scoring/tokens.h"

#include <stdlib.h>

#define NOWHERE UINT64_MAX
#define BUCKET 6 /* hashes; few buckets have more */

static inline uint64_t load64(const uint8_t *array, uint64_t i) {
    uint64_t value;
    memcpy(&value, array + 8 * i, 8);
    return value;
}

static inline uint64_t bucket_of(const Block *block, uint64_t hash) {
    return block->shift == 64 ? 0 : hash >> block->shift;
}

int block_build_index(Block *block) {
    int bits = 0;
    while (bits < 30 && (block->n >> (bits + 2)) > 0) bits++;
    block->shift = 64 - bits;
    uint64_t num_buckets = (uint64_t)1 << bits;
    block->index = malloc((num_buckets + 1) * sizeof(uint32_t));
    if (block->index == NULL) return -1;
    uint64_t bucket = 0;
    for (uint64_t i = 0; i < block->n; i++)
        for (uint64_t wanted = bucket_of(block, load64(block->hashes, i)); bucket <= wanted; bucket++)
            block->index[bucket] = (uint32_t)i;
    for (; bucket <= num_buckets; bucket++) block->index[bucket] = (uint32_t)block->n;
    return 0;
}

/* Each step asks for the memory that the next one reads, for all tokens, so that the waits overlap. */
void find_tokens(Token *tokens, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const Block *block = tokens[i].block;
        if (block->buckets == 0) __builtin_prefetch(block->index + bucket_of(block, tokens[i].hash));
    }
    for (size_t i = 0; i < count; i++) {
        const Block *block = tokens[i].block;
        if (block->buckets != 0) continue;
        tokens[i].at = block->index[bucket_of(block, tokens[i].hash)];
        __builtin_prefetch(block->hashes + 8 * tokens[i].at);
        __builtin_prefetch(block->hashes + 8 * (tokens[i].at + BUCKET - 1)); /* most buckets take two cache lines */
    }
    for (size_t i = 0; i < count; i++) {
        Token *token = &tokens[i];
        const Block *block = token->block;
        if (block->buckets != 0) continue;
        uint64_t at = token->at, end = block->index[bucket_of(block, token->hash) + 1], smaller = 0;
        if (at + BUCKET <= block->n) /* counting the smaller ones needs no branch */
            for (uint64_t j = at; j < at + BUCKET; j++) smaller += load64(block->hashes, j) < token->hash;
        at += smaller;
        while (at < end && load64(block->hashes, at) < token->hash) at++;
        token->at = at < end && load64(block->hashes, at) == token->hash ? at : NOWHERE;
        if (token->at != NOWHERE) __builtin_prefetch(block->positions + 8 * token->at);
    }
    for (size_t i = 0; i < count; i++) {
        const Block *block = tokens[i].block;
        if (block->buckets != 0 || tokens[i].at == NOWHERE) continue;
        tokens[i].at = load64(block->positions, tokens[i].at);
        if (tokens[i].at >= block->n) tokens[i].at = NOWHERE; /* it was checked when it was loaded, but a file can change */
        else __builtin_prefetch(block->ends + 8 * tokens[i].at);
    }
    for (size_t i = 0; i < count; i++) {
        const Block *block = tokens[i].block;
        if (block->buckets != 0 || tokens[i].at == NOWHERE) continue;
        uint64_t start = tokens[i].at ? load64(block->ends, tokens[i].at - 1) : 0;
        if (start < block->text_bytes) __builtin_prefetch(block->text + start);
    }
    for (size_t i = 0; i < count; i++) {
        const Token *token = &tokens[i];
        const Block *block = token->block;
        int64_t id = OOV;
        if (block->buckets != 0) {
            id = NUM_SPECIAL + (int64_t)(token->hash % block->buckets);
        } else if (token->at != NOWHERE) {
            uint64_t start = token->at ? load64(block->ends, token->at - 1) : 0, end = load64(block->ends, token->at);
            if (end <= block->text_bytes && start <= end && end - start == token->num_bytes &&
                is_equal(block->text + start, token->text, token->num_bytes))
                id = NUM_SPECIAL + (int64_t)token->at;
        }
        *token->row = token->start + id;
    }
}
