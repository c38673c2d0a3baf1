#include "data/token_index.h"

#include <stdlib.h>
#include <string.h>

#include "simd/xxh3.h"

#define AT_ONCE 64 /* tokens whose memory is prefetched together */

/* Hash a token; never 0, which stands for a null. */
static inline uint64_t hash_of(const TokenView *view, const uint8_t *const *buffers) {
    uint64_t hash = xxh_fold128(view->words[0] ^ XXH_PRIME64_2, XXH_PRIME64_3);
    if (view->num_bytes <= INLINE_BYTES) hash = xxh3_avalanche(xxh_fold128(hash, view->words[1] ^ XXH_PRIME64_4));
    if (view->num_bytes <= INLINE_BYTES) return hash + (hash == 0);
    hash = xxh_fold128(hash ^ XXH_PRIME64_5, xxh3(text_of(view, buffers), view->num_bytes) ^ XXH_PRIME64_1);
    return hash + (hash == 0);
}

static inline int is_token(const TokenIndex *index, size_t code, uint64_t hash, const TokenView *view,
                           const uint8_t *const *buffers) {
    const TokenView *token = &index->tokens[code];
    if (index->hashes[code] != hash || token->words[0] != view->words[0]) return 0;
    if (view->num_bytes <= INLINE_BYTES) return token->words[1] == view->words[1];
    return memcmp(index->text + token->at, text_of(view, buffers), view->num_bytes) == 0;
}

int token_index_open(TokenIndex *index) {
    memset(index, 0, sizeof *index);
    index->num_slots = 1 << 10, index->room = 1 << 9, index->text_room = 1 << 10, index->size = 1;
    index->slots = calloc(index->num_slots, sizeof *index->slots);
    index->hashes = calloc(index->room, sizeof *index->hashes);
    index->tokens = calloc(index->room, sizeof *index->tokens);
    index->text = malloc(index->text_room);
    return index->slots && index->hashes && index->tokens && index->text ? 0 : -1;
}

void token_index_close(TokenIndex *index) {
    free(index->slots), free(index->hashes), free(index->tokens), free(index->text);
    memset(index, 0, sizeof *index);
}

static inline uint64_t slot_with(uint64_t hash, size_t code) { return (hash & 0xFFFFFFFF00000000) | code; }

static int grow(TokenIndex *index) {
    size_t room = 2 * index->room, mask = 2 * room - 1;
    uint64_t *slots = calloc(2 * room, sizeof *slots), *hashes = realloc(index->hashes, room * sizeof *hashes);
    if (hashes != NULL) index->hashes = hashes;
    TokenView *tokens = realloc(index->tokens, room * sizeof *tokens);
    if (tokens != NULL) index->tokens = tokens;
    if (slots == NULL || hashes == NULL || tokens == NULL || room > UINT32_MAX) {
        free(slots);
        return -1;
    }
    for (size_t code = 1; code < index->size; code++) {
        size_t at = index->hashes[code] & mask;
        while (slots[at] != 0) at = (at + 1) & mask;
        slots[at] = slot_with(index->hashes[code], code);
    }
    free(index->slots);
    index->slots = slots, index->num_slots = 2 * room, index->room = room;
    return 0;
}

static int add(TokenIndex *index, uint64_t hash, const TokenView *view, const uint8_t *const *buffers) {
    TokenView token = *view;
    if (token.num_bytes > INLINE_BYTES) {
        if (index->text_room - index->num_bytes < token.num_bytes) {
            size_t room = 2 * index->text_room + token.num_bytes;
            uint8_t *text = realloc(index->text, room);
            if (text == NULL) return -1;
            index->text = text, index->text_room = room;
        }
        memcpy(index->text + index->num_bytes, text_of(view, buffers), token.num_bytes);
        token.at = index->num_bytes;
        index->num_bytes += token.num_bytes;
    }
    index->hashes[index->size] = hash;
    index->tokens[index->size++] = token;
    return 0;
}

ptrdiff_t token_index_number(TokenIndex *index, const StringSlice *tokens, uint32_t *codes, int64_t *firsts) {
    const TokenView *views = tokens->views;
    const uint8_t *const *buffers = tokens->buffers;
    size_t n = tokens->length;
    ptrdiff_t num_new = 0;
    for (size_t start = 0; start < n; start += AT_ONCE) {
        size_t end = n - start < AT_ONCE ? n : start + AT_ONCE;
        uint64_t hashes[AT_ONCE];
        for (size_t i = start; i < end; i++) {
            hashes[i - start] = is_null_value(tokens, i) ? 0 : hash_of(&views[i], buffers);
            __builtin_prefetch(&index->slots[hashes[i - start] & (index->num_slots - 1)]);
        }
        for (size_t i = start; i < end; i++) {
            uint32_t code = (uint32_t)index->slots[hashes[i - start] & (index->num_slots - 1)];
            __builtin_prefetch(&index->hashes[code]), __builtin_prefetch(&index->tokens[code]);
        }
        for (size_t i = start; i < end; i++) {
            uint64_t hash = hashes[i - start], slot;
            codes[i] = NULL_CODE;
            if (hash == 0) continue;
            if (firsts != NULL && index->size == index->room && grow(index) < 0) return -1;
            size_t mask = index->num_slots - 1, at = hash & mask;
            while ((slot = index->slots[at]) != 0) {
                uint32_t code = (uint32_t)slot;
                if (slot == slot_with(hash, code) && is_token(index, code, hash, &views[i], buffers)) break;
                at = (at + 1) & mask;
            }
            if (slot == 0 && firsts != NULL) {
                slot = index->slots[at] = slot_with(hash, index->size);
                if (add(index, hash, &views[i], buffers) < 0) {
                    index->slots[at] = 0;
                    return -1;
                }
                firsts[num_new++] = (int64_t)i;
            }
            codes[i] = (uint32_t)slot;
        }
    }
    return num_new;
}
