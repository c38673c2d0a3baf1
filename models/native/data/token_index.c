#include "data/token_index.h"

#include <stdlib.h>
#include <string.h>

#include "simd/xxh3.h"

#define AT_ONCE 64 /* tokens whose waits for memory overlap */

static inline const uint8_t *text_of(const TokenView *view, const uint8_t *const *buffers) {
    return view->num_bytes <= INLINE_BYTES ? view->text : buffers[view->buffer] + view->offset;
}

/* Never 0. */
static inline uint64_t hash_of(const TokenView *view, const uint8_t *const *buffers) {
    uint64_t hash = xxh_fold128(view->words[0] ^ XXH_PRIME64_2, XXH_PRIME64_3);
    if (view->num_bytes <= INLINE_BYTES) hash = xxh3_avalanche(xxh_fold128(hash, view->words[1] ^ XXH_PRIME64_4));
    if (view->num_bytes <= INLINE_BYTES) return hash + (hash == 0);
    const uint8_t *text = text_of(view, buffers);
    for (size_t left = view->num_bytes; left > 0;) {
        size_t some = left < XXH3_MAX_BYTES ? left : XXH3_MAX_BYTES;
        hash = xxh_fold128(hash ^ XXH_PRIME64_5, xxh3(text, some) ^ XXH_PRIME64_1);
        text += some, left -= some;
    }
    return hash + (hash == 0);
}

static inline int is_token(const Dictionary *d, size_t code, uint64_t hash, const TokenView *view,
                           const uint8_t *const *buffers) {
    const TokenView *token = &d->tokens[code];
    if (d->hashes[code] != hash || token->words[0] != view->words[0]) return 0;
    if (view->num_bytes <= INLINE_BYTES) return token->words[1] == view->words[1];
    return memcmp(d->text + token->at, text_of(view, buffers), view->num_bytes) == 0;
}

int dictionary_open(Dictionary *d) {
    memset(d, 0, sizeof *d);
    d->num_slots = 1 << 10, d->room = 1 << 9, d->text_room = 1 << 10, d->size = 1;
    d->slots = calloc(d->num_slots, sizeof *d->slots);
    d->hashes = calloc(d->room, sizeof *d->hashes);
    d->tokens = calloc(d->room, sizeof *d->tokens);
    d->text = malloc(d->text_room);
    return d->slots && d->hashes && d->tokens && d->text ? 0 : -1;
}

void dictionary_close(Dictionary *d) {
    free(d->slots), free(d->hashes), free(d->tokens), free(d->text);
    memset(d, 0, sizeof *d);
}

static inline uint64_t slot_with(uint64_t hash, size_t code) { return (hash & 0xFFFFFFFF00000000) | code; }

static int grow(Dictionary *d) {
    size_t room = 2 * d->room, mask = 2 * room - 1;
    uint64_t *slots = calloc(2 * room, sizeof *slots), *hashes = realloc(d->hashes, room * sizeof *hashes);
    if (hashes != NULL) d->hashes = hashes;
    TokenView *tokens = realloc(d->tokens, room * sizeof *tokens);
    if (tokens != NULL) d->tokens = tokens;
    if (slots == NULL || hashes == NULL || tokens == NULL || room > UINT32_MAX) {
        free(slots);
        return -1;
    }
    for (size_t code = 1; code < d->size; code++) {
        size_t at = d->hashes[code] & mask;
        while (slots[at] != 0) at = (at + 1) & mask;
        slots[at] = slot_with(d->hashes[code], code);
    }
    free(d->slots);
    d->slots = slots, d->num_slots = 2 * room, d->room = room;
    return 0;
}

static int add(Dictionary *d, uint64_t hash, const TokenView *view, const uint8_t *const *buffers) {
    TokenView token = *view;
    if (token.num_bytes > INLINE_BYTES) {
        if (d->text_room - d->num_bytes < token.num_bytes) {
            size_t room = 2 * d->text_room + token.num_bytes;
            uint8_t *text = realloc(d->text, room);
            if (text == NULL) return -1;
            d->text = text, d->text_room = room;
        }
        memcpy(d->text + d->num_bytes, text_of(view, buffers), token.num_bytes);
        token.at = d->num_bytes;
        d->num_bytes += token.num_bytes;
    }
    d->hashes[d->size] = hash;
    d->tokens[d->size++] = token;
    return 0;
}

ptrdiff_t dictionary_number(Dictionary *d, const TokenView *views, const uint8_t *const *buffers, const uint8_t *is_valid,
                            size_t first, size_t n, uint32_t *codes, int64_t *firsts) {
    ptrdiff_t num_new = 0;
    for (size_t start = 0; start < n; start += AT_ONCE) {
        size_t end = n - start < AT_ONCE ? n : start + AT_ONCE;
        uint64_t hashes[AT_ONCE];
        for (size_t i = start; i < end; i++) {
            int is_null = is_valid != NULL && !(is_valid[(first + i) / 8] >> (first + i) % 8 & 1);
            hashes[i - start] = is_null ? 0 : hash_of(&views[i], buffers);
            __builtin_prefetch(&d->slots[hashes[i - start] & (d->num_slots - 1)]);
        }
        for (size_t i = start; i < end; i++) {
            uint32_t code = (uint32_t)d->slots[hashes[i - start] & (d->num_slots - 1)];
            __builtin_prefetch(&d->hashes[code]), __builtin_prefetch(&d->tokens[code]);
        }
        for (size_t i = start; i < end; i++) {
            uint64_t hash = hashes[i - start], slot;
            codes[i] = NULL_CODE;
            if (hash == 0) continue; /* a null */
            if (firsts != NULL && d->size == d->room && grow(d) < 0) return -1;
            size_t mask = d->num_slots - 1, at = hash & mask;
            while ((slot = d->slots[at]) != 0) {
                uint32_t code = (uint32_t)slot;
                if (slot == slot_with(hash, code) && is_token(d, code, hash, &views[i], buffers)) break;
                at = (at + 1) & mask;
            }
            if (slot == 0 && firsts != NULL) {
                slot = d->slots[at] = slot_with(hash, d->size);
                if (add(d, hash, &views[i], buffers) < 0) {
                    d->slots[at] = 0;
                    return -1;
                }
                firsts[num_new++] = (int64_t)i;
            }
            codes[i] = (uint32_t)slot;
        }
    }
    return num_new;
}
