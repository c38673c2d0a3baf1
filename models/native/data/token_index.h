/* The distinct tokens of a block of a log, numbered from 1 as they come: what `models.data.token_index` does with numpy. */
#ifndef CTRSERVE_DICTIONARY_H
#define CTRSERVE_DICTIONARY_H

#include <stddef.h>
#include <stdint.h>

#define NULL_CODE 0 /* of a null; tokens have codes from 1 */

/* A token, or a view of one in an Arrow array of type "vu": up to 12 bytes stand in it and zeros after them, of more
 * the first four and where all are. */
typedef union {
    uint64_t words[2];
    struct {
        uint32_t num_bytes;
        uint8_t text[12];
    };
    struct {
        uint32_t first[2], buffer, offset; /* of a view */
    };
    struct {
        uint64_t also_first, at; /* in the dictionary's text, of a token that was copied there */
    };
} TokenView;

#define INLINE_BYTES 12

typedef struct {
    uint64_t *slots; /* code, and the upper half of the hash above it; open addressing, at most half are taken */
    size_t num_slots; /* a power of two */
    uint64_t *hashes; /* by code */
    TokenView *tokens;    /* by code */
    size_t size, room; /* codes, with that of null, and how many there is room for */
    uint8_t *text;    /* of tokens of more than INLINE_BYTES */
    size_t num_bytes, text_room;
} Dictionary;

/* 0, or -1 without memory. */
int dictionary_open(Dictionary *d);
void dictionary_close(Dictionary *d);

/* Codes of n tokens; is_valid: bits of those that are no null, from bit `first` on, or NULL. With firsts [n], new tokens
 * get new codes and their places are written there; without, they get NULL_CODE. How many are new, or -1 without memory,
 * or with more tokens than codes. */
ptrdiff_t dictionary_number(Dictionary *d, const TokenView *views, const uint8_t *const *buffers, const uint8_t *is_valid,
                            size_t first, size_t n, uint32_t *codes, int64_t *firsts);

#endif
